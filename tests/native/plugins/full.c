/* A plugin that has everything, for the tests; compiled as it is, or with VERSION defined as something else. */

#include <plugd.h>

#include <stdlib.h>

#ifndef VERSION
#define VERSION "1.2.0"
#endif
#ifndef STEP
#define STEP 1.0
#endif

enum { PLAIN, LABELLED, COLLECTED };

static const char *const labels[] = {"mode", "cpu.logical_number"};
static const struct plugd_metric metrics[] = {
    [PLAIN] = {.kind = PLUGD_GAUGE, .name = "full.plain", .unit = "s", .help = "What the option says."},
    [LABELLED] = {.kind = PLUGD_GAUGE, .name = "full.labelled", .labels = labels, .label_count = PLUGD_COUNT(labels)},
    [COLLECTED] = {.kind = PLUGD_COUNTER, .name = "full.collected", .unit = "{collection}", .help = "Collections."},
};

enum { RATIO, COUNT, PATH, SHOWN, TREE, NOTHING };

static const struct plugd_parameter options[] = {
    [RATIO] = {.name = "ratio", .help = "A number.", .type = PLUGD_TYPE_FLOAT, .initial = PLUGD_FLOAT(0.5)},
    [COUNT] = {.name = "count",
               .type = PLUGD_TYPE_INT,
               .initial = PLUGD_INT(3),
               .minimum = PLUGD_INT(1),
               .maximum = PLUGD_INT(10)},
    [PATH] = {.name = "path", .type = PLUGD_TYPE_STRING, .initial = PLUGD_STRING("/")},
    [SHOWN] = {.name = "shown", .type = PLUGD_TYPE_BOOL, .initial = PLUGD_BOOL(1)},
    [TREE] = {.name = "tree", .type = PLUGD_TYPE_JSON, .initial = PLUGD_JSON("{}")},
    [NOTHING] = {.name = "nothing", .type = PLUGD_TYPE_STRING, .flags = PLUGD_OPTIONAL},
};

struct state {
    char given[512];
    double ratio;
    int64_t level;
    char mode[32];
    uint64_t collected;
    uint32_t plain, collections;
};

static void take(struct state *state, const struct plugd_value *given)
{
    state->ratio = given[RATIO].number;
    snprintf(state->given, sizeof(state->given), "ratio=%g count=%lld path=%s shown=%lld tree=%s nothing=%s",
             given[RATIO].number, (long long)given[COUNT].integer, given[PATH].text, (long long)given[SHOWN].integer,
             given[TREE].text, given[NOTHING].type == PLUGD_TYPE_NULL ? "null" : given[NOTHING].text);
}

static int full_open(struct plugd_host *host, const struct plugd_value *given)
{
    struct state *state = calloc(1, sizeof(*state));
    if (state == NULL)
        return plugd_fail(host, "no memory");
    if (strcmp(given[PATH].text, "/refused") == 0)
        return plugd_refuse(host, "%s is no path for me", given[PATH].text);
    if (strcmp(given[PATH].text, "/failed") == 0)
        return plugd_fail(host, "cannot open %s", given[PATH].text);
    host->data = state;
    take(state, given);
    state->plain = plugd_series0(host, PLAIN);
    state->collections = plugd_series0(host, COLLECTED);
    printf("opened %s\n", host->name);
    return PLUGD_OK;
}

static int full_collect(struct plugd_host *host, struct plugd_buffer *buffer)
{
    struct state *state = host->data;
    state->collected++;
    plugd_emit(buffer, state->plain, state->ratio * STEP);
    plugd_emit(buffer, plugd_series2(host, LABELLED, "user", "0"), (double)state->level);
    plugd_emit(buffer, plugd_series2(host, LABELLED, state->mode, "1"), 2.5);
    plugd_emit(buffer, state->collections, (double)state->collected);
    return PLUGD_OK;
}

static void full_close(struct plugd_host *host)
{
    printf("closed %s", host->name); /* no end of line, on purpose */
    free(host->data);
}

static int full_reconfigure(struct plugd_host *host, const struct plugd_value *given)
{
    take(host->data, given);
    return PLUGD_OK;
}

static int full_save(struct plugd_host *host)
{
    struct state *state = host->data;
    plugd_reply_bytes(host, &state->collected, sizeof(state->collected));
    return PLUGD_OK;
}

static int full_load(struct plugd_host *host, const struct plugd_value *saved)
{
    struct state *state = host->data;
    if (saved->type == PLUGD_TYPE_BYTES && saved->size == sizeof(state->collected))
        memcpy(&state->collected, saved->text, saved->size);
    return PLUGD_OK;
}

static int get_level(struct plugd_host *host, uint32_t setting)
{
    (void)setting;
    plugd_reply_int(host, ((struct state *)host->data)->level);
    return PLUGD_OK;
}

static int set_level(struct plugd_host *host, uint32_t setting, const struct plugd_value *value)
{
    (void)setting;
    if (value->integer == 13)
        return plugd_refuse(host, "13 is bad luck");
    ((struct state *)host->data)->level = value->integer;
    return PLUGD_OK;
}

static int set_mode(struct plugd_host *host, uint32_t setting, const struct plugd_value *value)
{
    struct state *state = host->data;
    (void)setting;
    snprintf(state->mode, sizeof(state->mode), "%s", value->text);
    return PLUGD_OK;
}

static int get_given(struct plugd_host *host, uint32_t setting)
{
    (void)setting;
    plugd_reply_string(host, ((struct state *)host->data)->given);
    return PLUGD_OK;
}

static const struct plugd_value modes[] = {PLUGD_STRING("system"), PLUGD_STRING("idle")};
static const struct plugd_setting settings[] = {
    {.get = get_level,
     .set = set_level,
     .declared = {.name = "level",
                  .help = "A level.",
                  .type = PLUGD_TYPE_INT,
                  .initial = PLUGD_INT(7),
                  .minimum = PLUGD_INT(0),
                  .maximum = PLUGD_INT(100)}},
    {.set = set_mode,
     .declared = {.name = "mode",
                  .type = PLUGD_TYPE_STRING,
                  .initial = PLUGD_STRING("system"),
                  .choices = modes,
                  .choice_count = PLUGD_COUNT(modes)}},
    {.get = get_given, .declared = {.name = "given", .type = PLUGD_TYPE_STRING, .initial = PLUGD_STRING("")}},
};

static int add(struct plugd_host *host, uint32_t command, const struct plugd_value *arguments)
{
    (void)command;
    plugd_reply_int(host, arguments[0].integer + arguments[1].integer);
    return PLUGD_OK;
}

static int echo(struct plugd_host *host, uint32_t command, const struct plugd_value *arguments)
{
    (void)command;
    host->reply(host, &arguments[0]);
    return PLUGD_OK;
}

static int divide(struct plugd_host *host, uint32_t command, const struct plugd_value *arguments)
{
    (void)command;
    if (arguments[1].number == 0)
        return plugd_refuse_text(host, "nobody divides by zero");
    plugd_reply_float(host, arguments[0].number / arguments[1].number);
    return PLUGD_OK;
}

static int fail(struct plugd_host *host, uint32_t command, const struct plugd_value *arguments)
{
    (void)host, (void)command, (void)arguments;
    return 5;
}

static int structure(struct plugd_host *host, uint32_t command, const struct plugd_value *arguments)
{
    (void)command, (void)arguments;
    plugd_reply_json(host, "{\"cores\": [1, 2], \"model\": \"µ\"}");
    return PLUGD_OK;
}

static int crash(struct plugd_host *host, uint32_t command, const struct plugd_value *arguments)
{
    (void)host, (void)command, (void)arguments;
    *(volatile int *)NULL = 1;
    return PLUGD_OK;
}

static const struct plugd_parameter two_ints[] = {
    {.name = "a", .type = PLUGD_TYPE_INT},
    {.name = "b", .type = PLUGD_TYPE_INT, .initial = PLUGD_INT(2)},
};
static const struct plugd_parameter two_floats[] = {
    {.name = "a", .type = PLUGD_TYPE_FLOAT},
    {.name = "b", .type = PLUGD_TYPE_FLOAT},
};
static const struct plugd_parameter any[] = {{.name = "value", .type = PLUGD_TYPE_JSON}};
static const struct plugd_command commands[] = {
    {.name = "add", .help = "Add two.", .call = add, .parameters = two_ints, .parameter_count = PLUGD_COUNT(two_ints)},
    {.name = "divide", .call = divide, .parameters = two_floats, .parameter_count = PLUGD_COUNT(two_floats)},
    {.name = "echo", .call = echo, .parameters = any, .parameter_count = PLUGD_COUNT(any)},
    {.name = "fail", .call = fail},
    {.name = "structure", .call = structure},
    {.name = "crash", .call = crash},
};

static const struct plugd_descriptor plugin = {
    .header = PLUGD_HEADER,
    .name = "full",
    .version = VERSION,
    .description = "Has everything.",
    .interval = 0.1,
    .timeout = 5.0,
    .metrics = metrics,
    .metric_count = PLUGD_COUNT(metrics),
    .options = options,
    .option_count = PLUGD_COUNT(options),
    .settings = settings,
    .setting_count = PLUGD_COUNT(settings),
    .commands = commands,
    .command_count = PLUGD_COUNT(commands),
    .open = full_open,
    .collect = full_collect,
    .close = full_close,
    .reconfigure = full_reconfigure,
    .save_state = full_save,
    .load_state = full_load,
};

const struct plugd_descriptor *plugd_plugin(void) { return &plugin; }
