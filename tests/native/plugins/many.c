/* Many series: as many as the macro SERIES says, of one metric with one label; the values change, the series do not. */

#include <plugd.h>

#include <stdio.h>

#ifndef SERIES
#define SERIES 10000
#endif

static const char *const labels[] = {"n"};
static const struct plugd_metric metrics[] = {
    {.kind = PLUGD_GAUGE, .name = "many.value", .labels = labels, .label_count = PLUGD_COUNT(labels)},
};

static uint32_t ids[SERIES];
static double values[SERIES];

static int many_open(struct plugd_host *host, const struct plugd_value *options)
{
    (void)options;
    for (int i = 0; i < SERIES; i++) {
        char text[16];
        snprintf(text, sizeof(text), "%d", i);
        ids[i] = plugd_series1(host, 0, text);
    }
    return PLUGD_OK;
}

static int many_collect(struct plugd_host *host, struct plugd_buffer *buffer)
{
    static double turn;
    (void)host;
    turn += 0.25;
    for (int i = 0; i < SERIES; i++)
        values[i] = i + turn;
    plugd_emit_many(buffer, ids, values, SERIES);
    return PLUGD_OK;
}

static const struct plugd_descriptor plugin = {
    .header = PLUGD_HEADER,
    .description = "Many series.",
    .interval = 0.25,
    .metrics = metrics,
    .metric_count = PLUGD_COUNT(metrics),
    .open = many_open,
    .collect = many_collect,
};

const struct plugd_descriptor *plugd_plugin(void) { return &plugin; }
