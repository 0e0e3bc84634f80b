/*
 * How long the host has been up: the least that a native plugin is.
 *
 *     cc -shared -fPIC -O2 -I"$(plugd --include-dir)" -o uptime.so uptime.c
 */

#include <plugd.h>

#include <errno.h>
#include <stdio.h>
#include <string.h>

enum { UPTIME, IDLE };

static const struct plugd_metric metrics[] = {
    [UPTIME] = {.kind = PLUGD_GAUGE, .name = "system.uptime", .unit = "s", .help = "Time since the host was booted."},
    [IDLE] = {.kind = PLUGD_COUNTER, .name = "system.idle", .unit = "s", .help = "Idle time of all processors."},
};

/* /proc/uptime, both fields: proc(5) */
static int collect(struct plugd_host *host, struct plugd_buffer *buffer)
{
    double uptime, idle;
    int fields;
    FILE *file = fopen("/proc/uptime", "re");
    if (file == NULL)
        return plugd_fail(host, "cannot open /proc/uptime: %s", strerror(errno));
    fields = fscanf(file, "%lf %lf", &uptime, &idle);
    fclose(file);
    if (fields != 2)
        return plugd_fail(host, "cannot read /proc/uptime: %d of 2 fields", fields);
    plugd_emit(buffer, plugd_series0(host, UPTIME), uptime);
    plugd_emit(buffer, plugd_series0(host, IDLE), idle);
    return PLUGD_OK;
}

static const struct plugd_descriptor plugin = {
    .header = PLUGD_HEADER,
    .name = "uptime",
    .version = "1.0.0",
    .description = "How long the host has been up.",
    .interval = 10.0,
    .metrics = metrics,
    .metric_count = PLUGD_COUNT(metrics),
    .collect = collect,
};

const struct plugd_descriptor *plugd_plugin(void) { return &plugin; }
