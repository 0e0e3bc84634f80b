/*
 * plugd.h: plugins for plugd in C, C++, Rust, Go, and whatever else can make a shared object.
 *
 * A plugin is one file, NAME.so, that exports one symbol: the function plugd_plugin(), which returns a description of
 * the plugin. plugd loads the file into a process of its own, checks the description as a whole, and calls the
 * functions in it. This header is all there is to build against; there is no library to link.
 *
 *     #include <plugd.h>
 *
 *     static const struct plugd_metric metrics[] = {
 *         {.kind = PLUGD_GAUGE, .name = "dice.value", .unit = "1", .help = "What came up."},
 *     };
 *
 *     static int collect(struct plugd_host *host, struct plugd_buffer *buffer)
 *     {
 *         plugd_emit(buffer, plugd_series0(host, 0), 4.0);
 *         return PLUGD_OK;
 *     }
 *
 *     static const struct plugd_descriptor plugin = {
 *         .header = PLUGD_HEADER,
 *         .version = "1.0.0",
 *         .description = "Rolls a die.",
 *         .interval = 10.0,
 *         .metrics = metrics,
 *         .metric_count = PLUGD_COUNT(metrics),
 *         .collect = collect,
 *     };
 *
 *     const struct plugd_descriptor *plugd_plugin(void) { return &plugin; }
 *
 *     cc -shared -fPIC -O2 -I"$(plugd --include-dir)" -o dice.so dice.c && plugctl check ./dice.so
 *
 * Rules that hold for everything below:
 *
 * - Whatever is zero has its usual meaning: no default, no bound, no such function. A plugin sets what it needs.
 * - Text is UTF-8. Text that a plugin declares ends with a zero byte.
 * - What plugd_plugin() returns, with all that it points to, stays where it is, and unchanged, as long as the process
 *   lives. What plugd passes to a function is plugd's, and is gone when the function returns, but for the host.
 * - plugd calls one function at a time, always from the same thread. A plugin may have threads of its own, and they may
 *   call nothing of plugd's: they leave their values where collect() finds them.
 * - No function may let a C++ exception, a Rust panic or a longjmp out. A crash, an exit() or a missed deadline costs
 *   the plugin its process, and nobody else anything.
 * - stdout and stderr are the plugin's log: `plugctl logs NAME`.
 *
 * C99 or later, C++11 or later.
 */

#ifndef PLUGD_H
#define PLUGD_H

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#ifdef __cplusplus
extern "C" {
#endif

/*
 * The version of this interface. It changes when a plugin has to be changed, or at least compiled again. What is merely
 * new is added at the end of a structure, whose size the plugin states: an older plugin goes on as it is, and a newer
 * one runs as long as it leaves at zero what an older plugd does not know.
 */
#define PLUGD_ABI_VERSION 1

/* What a function returns. */
enum {
    PLUGD_OK = 0,
    PLUGD_FAILED = 1,  /* it did not work, and may another time; the reason is told by plugd_fail() */
    PLUGD_REFUSED = 2  /* these options, this value, these arguments will never do; plugd_refuse() */
};

/* ---- Values ---------------------------------------------------------------------------------------------------- */

/* The type of a value, and which members of struct plugd_value hold it. */
enum {
    PLUGD_TYPE_NULL = 0,   /* nothing: no value, no default, no bound */
    PLUGD_TYPE_BOOL = 1,   /* integer: 0 or 1 */
    PLUGD_TYPE_INT = 2,    /* integer */
    PLUGD_TYPE_FLOAT = 3,  /* number */
    PLUGD_TYPE_STRING = 4, /* text, size: UTF-8 */
    PLUGD_TYPE_JSON = 5,   /* text, size: a JSON document, for lists, tables and whatever else has structure */
    PLUGD_TYPE_BYTES = 6   /* text, size: any bytes; only as state and as the result of a command */
};

/*
 * A typed value. This structure never grows. Its members are all there at any time, and no union, for the sake of
 * languages that have none; those that its type does not name are zero.
 */
struct plugd_value {
    uint32_t type;     /* PLUGD_TYPE_... */
    uint32_t reserved; /* 0 */
    int64_t integer;
    double number;
    const char *text; /* from plugd: with a zero byte behind it; to plugd: need not have one */
    size_t size;      /* bytes of the text, without that zero byte */
};

/* Values as initialisers: `.initial = PLUGD_INT(7)`. PLUGD_STRING takes a literal. */
#define PLUGD_NULL {PLUGD_TYPE_NULL, 0, 0, 0.0, NULL, 0}
#define PLUGD_BOOL(value) {PLUGD_TYPE_BOOL, 0, (value) ? 1 : 0, 0.0, NULL, 0}
#define PLUGD_INT(value) {PLUGD_TYPE_INT, 0, (value), 0.0, NULL, 0}
#define PLUGD_FLOAT(value) {PLUGD_TYPE_FLOAT, 0, 0, (value), NULL, 0}
#define PLUGD_STRING(literal) {PLUGD_TYPE_STRING, 0, 0, 0.0, "" literal, sizeof(literal) - 1}
#define PLUGD_JSON(literal) {PLUGD_TYPE_JSON, 0, 0, 0.0, "" literal, sizeof(literal) - 1}

/* ---- What a plugin declares ------------------------------------------------------------------------------------- */

/* How many elements an array has. */
#define PLUGD_COUNT(array) ((uint32_t)(sizeof(array) / sizeof((array)[0])))

enum {
    PLUGD_GAUGE = 1,  /* goes up and down: a temperature, bytes in use */
    PLUGD_COUNTER = 2 /* only grows, and starts again at zero with what it counts; plugd derives its rate */
};

/* A metric. Its place in the array is the number by which plugd_series() knows it. */
struct plugd_metric {
    uint32_t kind;             /* PLUGD_GAUGE or PLUGD_COUNTER */
    uint32_t label_count;      /* elements of labels */
    const char *name;          /* a letter, then letters, digits and _ . - /; as in OpenTelemetry: "system.cpu.time" */
    const char *unit;          /* UCUM: "s", "By", "1", "{thread}"; NULL: "1" */
    const char *const *labels; /* names of the labels that every series of it has: "cpu.mode" */
    const char *help;          /* one sentence on what a value means, or NULL */
};

enum {
    PLUGD_OPTIONAL = 1 /* has no default, and may be left out all the same: its value is PLUGD_TYPE_NULL then */
};

/*
 * An option, a setting, or a parameter of a command: a name with a type. plugd converts what it is given to that type,
 * checks it, and puts the default where nothing is given: what a plugin gets has the declared type.
 *
 * A parameter of type PLUGD_TYPE_JSON takes anything that the configuration can hold, and gets it as text.
 */
struct plugd_parameter {
    const char *name;                  /* a letter or _, then letters, digits and _ */
    const char *help;                  /* one sentence, or NULL */
    uint32_t type;                     /* PLUGD_TYPE_BOOL, _INT, _FLOAT, _STRING or _JSON */
    uint32_t flags;                    /* PLUGD_OPTIONAL, or 0 */
    struct plugd_value initial;        /* the default; null: it must be given, unless it is optional */
    struct plugd_value minimum;        /* inclusive bounds of an int or float; null: none */
    struct plugd_value maximum;
    const struct plugd_value *choices; /* the only values allowed; NULL: all */
    uint32_t choice_count;             /* elements of choices */
    uint32_t reserved;                 /* 0 */
};

struct plugd_host;
struct plugd_buffer;

/*
 * A setting: what `plugctl get` reads and `plugctl set` changes while the plugin runs. It must have a default.
 *
 * After open(), and before the first collect(), plugd calls set() for every setting that has one, with the default or
 * with what the configuration or somebody has set.
 */
struct plugd_setting {
    /*
     * Gives the value by plugd_reply_...(), of the declared type. NULL: the value is what was set last.
     * setting: the place in the array of settings.
     */
    int (*get)(struct plugd_host *host, uint32_t setting);
    /* Takes a value, or refuses it and keeps the old one. NULL: nobody can change it. */
    int (*set)(struct plugd_host *host, uint32_t setting, const struct plugd_value *value);
    struct plugd_parameter declared; /* stays the last member: it may grow */
};

/* A command: `plugctl call NAME COMMAND ARG...`. */
struct plugd_command {
    const char *name;                         /* a letter or _, then letters, digits and _ */
    const char *help;                         /* one sentence, or NULL */
    const struct plugd_parameter *parameters; /* in the order of the arguments */
    uint32_t parameter_count;                 /* elements of parameters */
    uint32_t reserved;                        /* 0 */
    /*
     * Does it; the result is given by plugd_reply_...(), or is null. What takes longer than 30 s is killed.
     * command: the place in the array of commands.
     * arguments: one for each parameter, in their order.
     */
    int (*call)(struct plugd_host *host, uint32_t command, const struct plugd_value *arguments);
};

/* Which structures the plugin was compiled with: `.header = PLUGD_HEADER`. This structure never changes. */
struct plugd_header {
    uint32_t abi_version;
    uint32_t descriptor_size; /* bytes of struct plugd_descriptor, and so on */
    uint32_t metric_size;
    uint32_t parameter_size;
    uint32_t setting_size;
    uint32_t command_size;
    uint32_t value_size;
    uint32_t reserved; /* 0 */
};

#define PLUGD_HEADER                                                                                                   \
    {                                                                                                                  \
        PLUGD_ABI_VERSION, (uint32_t)sizeof(struct plugd_descriptor), (uint32_t)sizeof(struct plugd_metric),           \
            (uint32_t)sizeof(struct plugd_parameter), (uint32_t)sizeof(struct plugd_setting),                          \
            (uint32_t)sizeof(struct plugd_command), (uint32_t)sizeof(struct plugd_value), 0                            \
    }

/* The plugin: all that plugd knows of it. */
struct plugd_descriptor {
    struct plugd_header header;
    const char *name;        /* NULL, or the name that the file must have: "uptime" for uptime.so and libuptime.so */
    const char *version;     /* the plugin's own: "1.2.0"; NULL: "0.0.0" */
    const char *description; /* one sentence, or NULL */
    double interval;         /* seconds between two collections, 0.01 to 86400; 0: 10. The configuration may say else */
    double timeout;          /* seconds that a collection may take before it is killed; 0: the interval, but 1 to 30 */
    const struct plugd_metric *metrics;
    const struct plugd_parameter *options; /* what [plugins.NAME.options] of the configuration may hold */
    const struct plugd_setting *settings;
    const struct plugd_command *commands;
    uint32_t metric_count; /* elements of metrics, and so on */
    uint32_t option_count;
    uint32_t setting_count;
    uint32_t command_count;

    /*
     * Opens what the plugin needs; called once, before anything but plugd_plugin(). What it keeps goes to host->data.
     * PLUGD_FAILED: it is tried again later. PLUGD_REFUSED: not before the file or the options have changed.
     * options: one value for each declared option, in their order.
     */
    int (*open)(struct plugd_host *host, const struct plugd_value *options);

    /*
     * Collects once: fills the buffer, see plugd_emit(). The only function that every plugin has. If it does not return
     * PLUGD_OK, nothing of this collection is kept.
     */
    int (*collect)(struct plugd_host *host, struct plugd_buffer *buffer);

    /* Closes what open() opened. Not called when the process is killed. */
    void (*close)(struct plugd_host *host);

    /* Takes other options while it runs; as open(). If it fails, the old ones stay. Without it, others are a reload. */
    int (*reconfigure)(struct plugd_host *host, const struct plugd_value *options);

    /*
     * At a reload, the old code gives what the new code shall know, by one plugd_reply_...(), usually
     * plugd_reply_bytes() or plugd_reply_json(); and the new code takes it, after its open() and a first collect(). Of
     * which type and content it is, the new code has to see: the old code may have been another version.
     */
    int (*save_state)(struct plugd_host *host);
    int (*load_state)(struct plugd_host *host, const struct plugd_value *state);
};

/* ---- What plugd gives to a plugin ------------------------------------------------------------------------------- */

/* What plugd_series() returns where there can be no such series. */
#define PLUGD_NO_SERIES UINT32_C(0xFFFFFFFF)
/* A bit of the series that are beyond what a metric may have: they can be emitted, and are dropped and counted. */
#define PLUGD_DROPPED UINT32_C(0x80000000)

/* The host: one for the life of the plugin, always at the same address. */
struct plugd_host {
    uint32_t size;        /* bytes of this structure, as this plugd has it: see PLUGD_HAS */
    uint32_t abi_version; /* of this plugd */
    void *data;           /* the plugin's own: its state, or whatever it wants to find again */
    void *internal;       /* plugd's own */
    const char *name;     /* the plugin's name: "uptime", or "uptime@second" of several instances */
    const char *version;  /* plugd's own */
    /* Called by the helpers below. */
    uint32_t (*series)(struct plugd_host *host, uint32_t metric, const char *const *labels, uint32_t count);
    void (*reply)(struct plugd_host *host, const struct plugd_value *value);
    void (*fail)(struct plugd_host *host, const char *text, size_t size);
};

/* Whether this plugd has a member of struct plugd_host that came later than the first version of the ABI. */
#define PLUGD_HAS(host, member)                                                                                        \
    ((host)->size >= offsetof(struct plugd_host, member) + sizeof((host)->member))

/*
 * Where the samples of a collection go: sample i is values[i] of series[i]. A plugin may fill both arrays itself, up to
 * the capacity, and set the count. They hold what they held after the last collection: where the series are always the
 * same, it is enough to write the values, and the count.
 */
struct plugd_buffer {
    uint32_t size;            /* bytes of this structure, as this plugd has it */
    uint32_t capacity;        /* elements of series and of values: the limit on samples, 20,000 by default */
    uint32_t *series;         /* ids that plugd_series() has returned, each at most once */
    double *values;           /* finite numbers */
    uint32_t count;           /* samples in the buffer; 0 when collect() is called */
    uint32_t overflow_series; /* the first sample for which there was no room */
    uint64_t overflow;        /* how many there were; they are dropped and counted */
};

/* ---- Helpers ----------------------------------------------------------------------------------------------------- */

#if defined(__GNUC__)
#define PLUGD_PRINTF_(text, first) __attribute__((__format__(__printf__, text, first)))
#define PLUGD_EXPORT __attribute__((__visibility__("default")))
#else
#define PLUGD_PRINTF_(text, first)
#define PLUGD_EXPORT
#endif

/*
 * Returns the id of a series, by the number of its metric and a value for each of its labels, in their order. To ask
 * again for the same series gives the same id, and takes a microsecond or two: of a few series a plugin may ask each
 * time, of thousands it keeps the ids.
 *
 * A metric that is not declared, or another number of labels than declared, fails the function it was called in, and
 * gives PLUGD_NO_SERIES. Bytes that are no UTF-8, as file names may have, are escaped.
 *
 * An id stays good as long as the plugin runs. Only of a metric that has come to twice the series that it may have
 * (10,000 by default) those are forgotten that have not been emitted in the last 100 collections: a plugin whose series
 * come and go asks again, or keeps few.
 */
static inline uint32_t plugd_series(struct plugd_host *host, uint32_t metric, const char *const *labels, uint32_t count)
{
    return host->series(host, metric, labels, count);
}

/* The same for a metric without labels, with one, with two, with three. */
static inline uint32_t plugd_series0(struct plugd_host *host, uint32_t metric)
{
    return host->series(host, metric, NULL, 0);
}

static inline uint32_t plugd_series1(struct plugd_host *host, uint32_t metric, const char *first)
{
    const char *labels[1];
    labels[0] = first;
    return host->series(host, metric, labels, 1);
}

static inline uint32_t plugd_series2(struct plugd_host *host, uint32_t metric, const char *first, const char *second)
{
    const char *labels[2];
    labels[0] = first;
    labels[1] = second;
    return host->series(host, metric, labels, 2);
}

static inline uint32_t plugd_series3(struct plugd_host *host, uint32_t metric, const char *first, const char *second,
                                     const char *third)
{
    const char *labels[3];
    labels[0] = first;
    labels[1] = second;
    labels[2] = third;
    return host->series(host, metric, labels, 3);
}

/* Adds a sample to a collection. PLUGD_FAILED: there is no room for it; it is counted, and that is no failure. */
static inline int plugd_emit(struct plugd_buffer *buffer, uint32_t series, double value)
{
    if (buffer->count >= buffer->capacity) {
        if (buffer->overflow++ == 0)
            buffer->overflow_series = series;
        return PLUGD_FAILED;
    }
    buffer->series[buffer->count] = series;
    buffer->values[buffer->count] = value;
    buffer->count++;
    return PLUGD_OK;
}

/* Adds many samples: values[i] of series[i]. */
static inline int plugd_emit_many(struct plugd_buffer *buffer, const uint32_t *series, const double *values,
                                  uint32_t count)
{
    uint32_t room = buffer->capacity - buffer->count;
    uint32_t taken = count < room ? count : room;
    if (taken > 0) {
        memcpy(buffer->series + buffer->count, series, taken * sizeof(*series));
        memcpy(buffer->values + buffer->count, values, taken * sizeof(*values));
        buffer->count += taken;
    }
    if (taken == count)
        return PLUGD_OK;
    if (buffer->overflow == 0)
        buffer->overflow_series = series[taken];
    buffer->overflow += count - taken;
    return PLUGD_FAILED;
}

/* Gives a result; plugd copies it at once. The last one given by a function counts. */
static inline void plugd_reply_value(struct plugd_host *host, uint32_t type, int64_t integer, double number,
                                     const char *text, size_t size)
{
    struct plugd_value value;
    value.type = type;
    value.reserved = 0;
    value.integer = integer;
    value.number = number;
    value.text = text;
    value.size = size;
    host->reply(host, &value);
}

static inline void plugd_reply_null(struct plugd_host *host)
{
    plugd_reply_value(host, PLUGD_TYPE_NULL, 0, 0.0, NULL, 0);
}

static inline void plugd_reply_bool(struct plugd_host *host, int truth)
{
    plugd_reply_value(host, PLUGD_TYPE_BOOL, truth != 0, 0.0, NULL, 0);
}

static inline void plugd_reply_int(struct plugd_host *host, int64_t integer)
{
    plugd_reply_value(host, PLUGD_TYPE_INT, integer, 0.0, NULL, 0);
}

static inline void plugd_reply_float(struct plugd_host *host, double number)
{
    plugd_reply_value(host, PLUGD_TYPE_FLOAT, 0, number, NULL, 0);
}

static inline void plugd_reply_string(struct plugd_host *host, const char *text)
{
    plugd_reply_value(host, PLUGD_TYPE_STRING, 0, 0.0, text, strlen(text));
}

/* A JSON document: what `plugctl call` prints as a list or a table, and clients get as one. */
static inline void plugd_reply_json(struct plugd_host *host, const char *text)
{
    plugd_reply_value(host, PLUGD_TYPE_JSON, 0, 0.0, text, strlen(text));
}

static inline void plugd_reply_bytes(struct plugd_host *host, const void *bytes, size_t size)
{
    plugd_reply_value(host, PLUGD_TYPE_BYTES, 0, 0.0, (const char *)bytes, size);
}

/* Says why: `return plugd_fail(host, "cannot open %s: %s", path, strerror(errno));`. At most 1,023 bytes are told. */
static inline int plugd_fail(struct plugd_host *host, const char *format, ...) PLUGD_PRINTF_(2, 3);
static inline int plugd_refuse(struct plugd_host *host, const char *format, ...) PLUGD_PRINTF_(2, 3);

/* The same without a format, for languages that cannot call functions like printf. */
static inline int plugd_fail_text(struct plugd_host *host, const char *text)
{
    host->fail(host, text, strlen(text));
    return PLUGD_FAILED;
}

static inline int plugd_refuse_text(struct plugd_host *host, const char *text)
{
    host->fail(host, text, strlen(text));
    return PLUGD_REFUSED;
}

static inline int plugd_fail(struct plugd_host *host, const char *format, ...)
{
    char text[1024];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof(text), format, arguments);
    va_end(arguments);
    return plugd_fail_text(host, text);
}

static inline int plugd_refuse(struct plugd_host *host, const char *format, ...)
{
    char text[1024];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof(text), format, arguments);
    va_end(arguments);
    return plugd_refuse_text(host, text);
}

/* ---- The symbol -------------------------------------------------------------------------------------------------- */

/*
 * The one symbol of a plugin: returns its description, at any time the same, and does nothing else.
 *
 * Go's //export declares the function itself, without const: define PLUGD_NO_PROTOTYPE before this header there.
 */
#ifndef PLUGD_NO_PROTOTYPE
PLUGD_EXPORT const struct plugd_descriptor *plugd_plugin(void);
#endif

/* What both sides must agree on; a compiler that lays structures out otherwise stops here. */
#if UINTPTR_MAX == UINT64_MAX
#if defined(__cplusplus)
#define PLUGD_ASSERT_(condition, text) static_assert(condition, text)
#elif defined(__STDC_VERSION__) && __STDC_VERSION__ >= 201112L
#define PLUGD_ASSERT_(condition, text) _Static_assert(condition, text)
#endif
#endif
#ifdef PLUGD_ASSERT_
PLUGD_ASSERT_(sizeof(struct plugd_header) == 32, "struct plugd_header");
PLUGD_ASSERT_(sizeof(struct plugd_value) == 40, "struct plugd_value");
PLUGD_ASSERT_(sizeof(struct plugd_metric) == 40, "struct plugd_metric");
PLUGD_ASSERT_(sizeof(struct plugd_parameter) == 160, "struct plugd_parameter");
PLUGD_ASSERT_(sizeof(struct plugd_setting) == 176, "struct plugd_setting");
PLUGD_ASSERT_(sizeof(struct plugd_command) == 40, "struct plugd_command");
PLUGD_ASSERT_(sizeof(struct plugd_descriptor) == 168, "struct plugd_descriptor");
PLUGD_ASSERT_(sizeof(struct plugd_host) == 64, "struct plugd_host");
PLUGD_ASSERT_(sizeof(struct plugd_buffer) == 40, "struct plugd_buffer");
#undef PLUGD_ASSERT_
#endif

#ifdef __cplusplus
}
#endif

#endif
