// The partitions of this host, and how full they are.
package main

import (
	"os"
	"plugd"
	"strings"
	"sync"
	"syscall"
)

// Disk is the plugin.
type Disk struct{}

func (Disk) Name() string { return "disk" }

func (Disk) Desc() string { return "The partitions of this host." }

// Exec tells what partitions are mounted: `plugctl call disk info`.
func (Disk) Exec() map[string]interface{} {
	partitions, err := readPartitions()
	if err != nil {
		return map[string]interface{}{"error": err.Error()}
	}
	return map[string]interface{}{"info": partitions}
}

var usage = plugd.Gauge("system.filesystem.usage", "By", "Space of a file system.",
	"system.device", "system.filesystem.mountpoint", "system.filesystem.state")

// Collect asks all file systems at once, each in a goroutine of its own: one that is slow to answer holds up no other.
func (Disk) Collect(samples *plugd.Samples) error {
	partitions, err := readPartitions()
	if err != nil {
		return err
	}
	var all sync.WaitGroup
	for _, each := range partitions {
		each := each
		all.Add(1)
		plugd.Go(func() {
			defer all.Done()
			collect(samples, each)
		})
	}
	all.Wait()
	return nil
}

func collect(samples *plugd.Samples, each partition) {
	var found syscall.Statfs_t
	if syscall.Statfs(each.Mountpoint, &found) != nil {
		return // Nobody may look into it, or it is gone.
	}
	block := float64(found.Bsize)
	samples.Add(usage, block*float64(found.Blocks-found.Bfree), each.Device, each.Mountpoint, "used")
	samples.Add(usage, block*float64(found.Bavail), each.Device, each.Mountpoint, "free")
	samples.Add(usage, block*float64(found.Bfree-found.Bavail), each.Device, each.Mountpoint, "reserved")
}

type partition struct {
	Device     string `json:"device"`
	Mountpoint string `json:"mountpoint"`
	Type       string `json:"type"`
	Options    string `json:"options"`
}

// readPartitions reads /proc/self/mounts, fstab(5), and leaves out what is on no device; each device once.
func readPartitions() ([]partition, error) {
	text, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		return nil, err
	}
	without, err := withoutDevice()
	if err != nil {
		return nil, err
	}
	found, seen := []partition{}, map[string]bool{}
	for _, line := range strings.Split(string(text), "\n") {
		fields := strings.Fields(line)
		if len(fields) < 4 || without[fields[2]] || seen[fields[0]] {
			continue
		}
		seen[fields[0]] = true
		found = append(found, partition{fields[0], unescaped.Replace(fields[1]), fields[2], fields[3]})
	}
	return found, nil
}

// withoutDevice reads /proc/filesystems: which types need no device. What a container's root is on counts as one.
func withoutDevice() (map[string]bool, error) {
	text, err := os.ReadFile("/proc/filesystems")
	if err != nil {
		return nil, err
	}
	found := map[string]bool{}
	for _, line := range strings.Split(string(text), "\n") {
		if fields := strings.Fields(line); len(fields) == 2 && fields[0] == "nodev" {
			found[fields[1]] = fields[1] != "overlay"
		}
	}
	return found, nil
}

var unescaped = strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`)

func init() { plugd.Register(Disk{}) }

func main() {}
