// Software interrupts of every processor: a plugin with state, an option, a setting and a command, in C++11.
//
//     c++ -std=c++11 -shared -fPIC -O2 -I"$(plugd --include-dir)" -o softirqs.so softirqs.cpp

#include <plugd.h>

#include <cctype>
#include <cstdint>
#include <exception>
#include <fstream>
#include <map>
#include <sstream>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

namespace {

// One line of /proc/softirqs: what kind, and how many there were on each processor.
struct Row {
    std::string type;
    std::vector<double> counts;
};

// /proc/softirqs: proc_softirqs(5). The first line names the processors, which may be fewer than there could be.
std::vector<Row> read_rows(const std::string &path)
{
    std::ifstream file(path);
    std::string line;
    if (!std::getline(file, line))
        throw std::runtime_error("cannot read " + path);
    std::vector<Row> rows;
    while (std::getline(file, line)) {
        std::istringstream words(line);
        Row row;
        words >> row.type;
        if (row.type.empty() || row.type.back() != ':')
            throw std::runtime_error(path + ": malformed line: " + line);
        row.type.pop_back();
        for (char &letter : row.type)
            letter = static_cast<char>(std::tolower(static_cast<unsigned char>(letter)));
        for (double count; words >> count;)
            row.counts.push_back(count);
        rows.push_back(std::move(row));
    }
    return rows;
}

class Softirqs {
  public:
    Softirqs(plugd_host *host, std::string path) : host_(host), path_(std::move(path)) {}

    void collect(plugd_buffer *buffer)
    {
        for (const Row &row : read_rows(path_)) {
            double sum = 0;
            for (std::size_t cpu = 0; cpu < row.counts.size(); cpu++) {
                sum += row.counts[cpu];
                if (by_cpu)
                    plugd_emit(buffer, series(row.type, std::to_string(cpu)), row.counts[cpu]);
            }
            if (!by_cpu)
                plugd_emit(buffer, series(row.type, "all"), sum);
        }
    }

    // The type of which there were the most since boot, as JSON.
    std::string busiest() const
    {
        std::string type;
        double most = -1;
        for (const Row &row : read_rows(path_)) {
            double sum = 0;
            for (double count : row.counts)
                sum += count;
            if (sum > most) {
                most = sum;
                type = row.type;
            }
        }
        return "{\"type\": \"" + type + "\", \"count\": " + std::to_string(static_cast<std::int64_t>(most)) + "}";
    }

    bool by_cpu = true;

  private:
    // Each series is asked for once: with hundreds of processors there are thousands.
    std::uint32_t series(const std::string &type, const std::string &cpu)
    {
        auto found = series_.find({type, cpu});
        if (found == series_.end())
            found = series_.insert({{type, cpu}, plugd_series2(host_, 0, type.c_str(), cpu.c_str())}).first;
        return found->second;
    }

    plugd_host *host_;
    std::string path_;
    std::map<std::pair<std::string, std::string>, std::uint32_t> series_;
};

Softirqs &plugin_of(plugd_host *host) { return *static_cast<Softirqs *>(host->data); }

// Nothing may be thrown through plugd: what is thrown is told, and fails the call.
template <typename Function> int guarded(plugd_host *host, Function function) noexcept
{
    try {
        function();
        return PLUGD_OK;
    } catch (const std::exception &error) {
        return plugd_fail_text(host, error.what());
    } catch (...) {
        return plugd_fail_text(host, "something was thrown");
    }
}

int open_plugin(plugd_host *host, const plugd_value *options)
{
    return guarded(host, [=] { host->data = new Softirqs(host, std::string(options[0].text, options[0].size)); });
}

int collect(plugd_host *host, plugd_buffer *buffer)
{
    return guarded(host, [=] { plugin_of(host).collect(buffer); });
}

void close_plugin(plugd_host *host) { delete static_cast<Softirqs *>(host->data); }

int set_by_cpu(plugd_host *host, std::uint32_t, const plugd_value *value)
{
    plugin_of(host).by_cpu = value->integer != 0;
    return PLUGD_OK;
}

int call_busiest(plugd_host *host, std::uint32_t, const plugd_value *)
{
    return guarded(host, [=] { plugd_reply_json(host, plugin_of(host).busiest().c_str()); });
}

const char *const labels[] = {"softirq.type", "cpu.logical_number"};
const plugd_metric metrics[] = {
    {PLUGD_COUNTER, PLUGD_COUNT(labels), "system.softirqs", "{interrupt}", labels, "Software interrupts since boot."},
};

// C++ before C++20 has no initialisers by name: what has many members is filled in.
plugd_parameter path_option()
{
    plugd_parameter option = {};
    option.name = "path";
    option.help = "What is read.";
    option.type = PLUGD_TYPE_STRING;
    option.initial = PLUGD_STRING("/proc/softirqs");
    return option;
}

plugd_setting by_cpu_setting()
{
    plugd_setting setting = {};
    setting.set = set_by_cpu;
    setting.declared.name = "by_cpu";
    setting.declared.help = "Whether each processor has series of its own.";
    setting.declared.type = PLUGD_TYPE_BOOL;
    setting.declared.initial = PLUGD_BOOL(1);
    return setting;
}

plugd_command busiest_command()
{
    plugd_command command = {};
    command.name = "busiest";
    command.help = "The type of which there were the most.";
    command.call = call_busiest;
    return command;
}

const plugd_parameter options[] = {path_option()};
const plugd_setting settings[] = {by_cpu_setting()};
const plugd_command commands[] = {busiest_command()};

plugd_descriptor description()
{
    plugd_descriptor plugin = {};
    plugin.header = PLUGD_HEADER;
    plugin.name = "softirqs";
    plugin.version = "1.0.0";
    plugin.description = "Software interrupts of every processor, by type.";
    plugin.interval = 10.0;
    plugin.metrics = metrics;
    plugin.metric_count = PLUGD_COUNT(metrics);
    plugin.options = options;
    plugin.option_count = PLUGD_COUNT(options);
    plugin.settings = settings;
    plugin.setting_count = PLUGD_COUNT(settings);
    plugin.commands = commands;
    plugin.command_count = PLUGD_COUNT(commands);
    plugin.open = open_plugin;
    plugin.collect = collect;
    plugin.close = close_plugin;
    return plugin;
}

} // namespace

const plugd_descriptor *plugd_plugin()
{
    static const plugd_descriptor plugin = description();
    return &plugin;
}
