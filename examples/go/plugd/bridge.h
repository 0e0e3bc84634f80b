/* What C has to do for Go: cgo calls no function pointers, and exports no function whose parameters are const. */

#ifndef PLUGD_GO_BRIDGE_H
#define PLUGD_GO_BRIDGE_H

#include <plugd.h>

/* Which functions of a descriptor the plugin has; collect is one that every plugin has. */
enum {
    PLUGD_GO_CLOSE = 1,
    PLUGD_GO_RECONFIGURE = 2,
    PLUGD_GO_STATE = 4
};

void plugd_go_set_header(struct plugd_descriptor *descriptor, uint32_t functions);
void plugd_go_set_setting(struct plugd_setting *setting);
void plugd_go_set_command(struct plugd_command *command);

uint32_t plugd_go_series(struct plugd_host *host, uint32_t metric, char **labels, uint32_t count);
void plugd_go_reply(struct plugd_host *host, uint32_t type, int64_t integer, double number, char *text, size_t size);
/* An entry of the environment, by its number; NULL after the last. */
char *plugd_go_variable(size_t number);

void plugd_go_fail(struct plugd_host *host, char *text, size_t size);

#endif
