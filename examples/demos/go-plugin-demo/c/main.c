/*
 * The C program of the demo: it opens a plugin that is written in Go, and calls what it has. Without plugd: this is all
 * that plugd.h asks of a host, for a plugin without metrics.
 */

#include <plugd.h>

#include <dlfcn.h>
#include <stdio.h>

static void reply(struct plugd_host *host, const struct plugd_value *value)
{
    (void)host;
    if (value->type == PLUGD_TYPE_STRING)
        printf("  it returned \"%.*s\"\n", (int)value->size, value->text);
    else if (value->type == PLUGD_TYPE_INT)
        printf("  it returned %lld\n", (long long)value->integer);
}

static void fail(struct plugd_host *host, const char *text, size_t size)
{
    (void)host;
    printf("  it failed: %.*s\n", (int)size, text);
}

static uint32_t no_series(struct plugd_host *host, uint32_t metric, const char *const *labels, uint32_t count)
{
    (void)host, (void)metric, (void)labels, (void)count;
    return PLUGD_NO_SERIES;
}

int main(int count, char **arguments)
{
    struct plugd_host host = {sizeof(host), PLUGD_ABI_VERSION, NULL, NULL, "plugin", "0", no_series, reply, fail};
    const struct plugd_descriptor *plugin;
    const struct plugd_descriptor *(*symbol)(void);
    void *handle;
    uint32_t number;

    if (count != 2 || (handle = dlopen(arguments[1], RTLD_NOW)) == NULL) {
        fprintf(stderr, "%s\n", count == 2 ? dlerror() : "usage: main ./PLUGIN.so");
        return 1;
    }
    setvbuf(stdout, NULL, _IOLBF, 0); /* What the plugin prints comes in its turn. */
    *(void **)&symbol = dlsym(handle, "plugd_plugin");
    if (symbol == NULL) {
        fprintf(stderr, "%s\n", dlerror());
        return 1;
    }
    plugin = symbol();
    printf("%s: %s\n", plugin->name, plugin->description);
    if (plugin->open != NULL && plugin->open(&host, NULL) != PLUGD_OK)
        return 1;
    for (number = 0; number < plugin->setting_count; number++) {
        printf("variable %s\n", plugin->settings[number].declared.name);
        plugin->settings[number].get(&host, number);
    }
    for (number = 0; number < plugin->command_count; number++) {
        if (plugin->commands[number].parameter_count == 0) {
            printf("function %s\n", plugin->commands[number].name);
            plugin->commands[number].call(&host, number, NULL);
        }
    }
    return 0;
}
