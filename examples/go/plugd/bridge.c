#define _GNU_SOURCE /* pthread_setattr_default_np */

#include "bridge.h"
#include "_cgo_export.h"

#include <pthread.h>
#include <signal.h>
#include <unistd.h>

#define STACK_BYTES (1024 * 1024)

/* A thread's stack counts as memory that the plugin has, with all of its usual 8 MiB. Go code runs on stacks of its own. */
static void keep_stacks_small(void)
{
    pthread_attr_t attributes;
    if (pthread_attr_init(&attributes) != 0)
        return;
    if (pthread_attr_setstacksize(&attributes, STACK_BYTES) == 0)
        pthread_setattr_default_np(&attributes);
    pthread_attr_destroy(&attributes);
}

static void die(int number)
{
    signal(number, SIG_DFL);
    raise(number); /* as soon as this returns */
}

/*
 * Go takes these signals, and makes panics of what its own code does. The rest it hands on to whoever had them before;
 * if that is nobody, it says that something is wrong with Go, and aborts. So there is somebody: a crash of C is a crash.
 */
static void let_c_crash(void)
{
    static const int numbers[] = {SIGSEGV, SIGBUS, SIGFPE};
    struct sigaction action, before;
    size_t place;
    memset(&action, 0, sizeof(action));
    action.sa_handler = die;
    action.sa_flags = SA_ONSTACK;
    for (place = 0; place < sizeof(numbers) / sizeof(numbers[0]); place++)
        if (sigaction(numbers[place], NULL, &before) == 0 && before.sa_handler == SIG_DFL)
            sigaction(numbers[place], &action, NULL);
}

/* Go's runtime starts in such a function, too, but in one without a number, and those come later. */
__attribute__((constructor(101))) static void prepare(void)
{
    keep_stacks_small();
    let_c_crash();
}

static int handle_open(struct plugd_host *host, const struct plugd_value *options)
{
    return plugd_go_open(host, (struct plugd_value *)options);
}

static int handle_reconfigure(struct plugd_host *host, const struct plugd_value *options)
{
    return plugd_go_reconfigure(host, (struct plugd_value *)options);
}

static int handle_load_state(struct plugd_host *host, const struct plugd_value *state)
{
    return plugd_go_load_state(host, (struct plugd_value *)state);
}

static int handle_set(struct plugd_host *host, uint32_t setting, const struct plugd_value *value)
{
    return plugd_go_set(host, setting, (struct plugd_value *)value);
}

static int handle_call(struct plugd_host *host, uint32_t command, const struct plugd_value *arguments)
{
    return plugd_go_call(host, command, (struct plugd_value *)arguments);
}

void plugd_go_set_header(struct plugd_descriptor *descriptor, uint32_t functions)
{
    const struct plugd_header header = PLUGD_HEADER;
    descriptor->header = header;
    descriptor->open = handle_open;
    descriptor->collect = plugd_go_collect;
    descriptor->close = functions & PLUGD_GO_CLOSE ? plugd_go_close : NULL;
    descriptor->reconfigure = functions & PLUGD_GO_RECONFIGURE ? handle_reconfigure : NULL;
    descriptor->save_state = functions & PLUGD_GO_STATE ? plugd_go_save_state : NULL;
    descriptor->load_state = functions & PLUGD_GO_STATE ? handle_load_state : NULL;
}

void plugd_go_set_setting(struct plugd_setting *setting)
{
    setting->get = plugd_go_get;
    setting->set = handle_set;
}

void plugd_go_set_command(struct plugd_command *command) { command->call = handle_call; }

uint32_t plugd_go_series(struct plugd_host *host, uint32_t metric, char **labels, uint32_t count)
{
    return plugd_series(host, metric, (const char *const *)labels, count);
}

void plugd_go_reply(struct plugd_host *host, uint32_t type, int64_t integer, double number, char *text, size_t size)
{
    plugd_reply_value(host, type, integer, number, text, size);
}

void plugd_go_fail(struct plugd_host *host, char *text, size_t size) { host->fail(host, text, size); }

char *plugd_go_variable(size_t number) { return environ == NULL ? NULL : environ[number]; }

const struct plugd_descriptor *plugd_plugin(void) { return plugd_go_describe(); }
