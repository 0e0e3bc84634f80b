// The processors of this host: what they are, and what they do.
package main

import (
	"bufio"
	"fmt"
	"os"
	"plugd"
	"strconv"
	"strings"
)

// Cpu is the plugin: in the original, the exported variable of this name was looked up.
type Cpu struct{}

func (Cpu) Name() string { return "cpu" }

func (Cpu) Desc() string { return "The processors of this host." }

// Exec tells what the processors are: `plugctl call cpu info`.
func (Cpu) Exec() map[string]interface{} {
	processors, err := readProcessors()
	if err != nil {
		return map[string]interface{}{"error": err.Error()}
	}
	return map[string]interface{}{"info": processors}
}

// The original had no metrics; a monitor wants numbers.
var (
	count     = plugd.Gauge("system.cpu.logical.count", "{cpu}", "Processors that are online.")
	frequency = plugd.Gauge("system.cpu.frequency", "Hz", "What a processor runs at.", "cpu.logical_number")
	spent     = plugd.Counter("system.cpu.time", "s", "Time of all processors.", "cpu.mode")
)

// Collect is called every ten seconds, or as often as the configuration says.
func (Cpu) Collect(samples *plugd.Samples) error {
	processors, err := readProcessors()
	if err != nil {
		return err
	}
	samples.Add(count, float64(len(processors)))
	for _, each := range processors {
		if each.MHz > 0 {
			samples.Add(frequency, each.MHz*1e6, strconv.Itoa(each.Processor))
		}
	}
	return collectTimes(samples)
}

type processor struct {
	Processor int      `json:"processor"`
	Model     string   `json:"model"`
	MHz       float64  `json:"mhz"`
	Cores     int      `json:"cores"`
	Flags     []string `json:"flags"`
}

// readProcessors reads /proc/cpuinfo: a block of lines for each processor, with other keys on other machines.
func readProcessors() ([]processor, error) {
	file, err := os.Open("/proc/cpuinfo")
	if err != nil {
		return nil, err
	}
	defer file.Close()
	var found []processor
	lines := bufio.NewScanner(file)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		key, value, _ := strings.Cut(lines.Text(), ":")
		key, value = strings.TrimSpace(key), strings.TrimSpace(value)
		if key == "processor" {
			number, _ := strconv.Atoi(value)
			found = append(found, processor{Processor: number, Flags: []string{}})
		}
		if len(found) == 0 {
			continue
		}
		last := &found[len(found)-1]
		switch key {
		case "model name":
			last.Model = value
		case "cpu MHz":
			last.MHz, _ = strconv.ParseFloat(value, 64)
		case "cpu cores":
			last.Cores, _ = strconv.Atoi(value)
		case "flags", "Features":
			last.Flags = strings.Fields(value)
		}
	}
	return found, lines.Err()
}

var modes = []string{"user", "nice", "system", "idle", "iowait", "interrupt", "softirq", "steal"}

const ticksPerSecond = 100 // USER_HZ, the same on every Linux that Go runs on

// collectTimes reads the first line of /proc/stat: proc(5).
func collectTimes(samples *plugd.Samples) error {
	text, err := os.ReadFile("/proc/stat")
	if err != nil {
		return err
	}
	line, _, _ := strings.Cut(string(text), "\n")
	fields := strings.Fields(line)
	if len(fields) <= len(modes) || fields[0] != "cpu" {
		return fmt.Errorf("/proc/stat begins with %q", line)
	}
	for number, mode := range modes {
		ticks, err := strconv.ParseFloat(fields[number+1], 64)
		if err != nil {
			return err
		}
		samples.Add(spent, ticks/ticksPerSecond, mode)
	}
	return nil
}

func init() { plugd.Register(Cpu{}) }

func main() {}
