// A plugin with everything that the Go package has.
package main

/*
static void crash(void) { *(volatile int *)0 = 1; }
*/
import "C"

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"plugd"
	"runtime"
	"strconv"
	"sync/atomic"
	"time"
)

const version = "1.0"

var (
	plain    = plugd.Gauge("full.plain", "1", "A number.")
	turns    = plugd.Counter("full.turns", "{turn}", "Collections, over reloads.")
	labelled = plugd.Gauge("full.labelled", "By", "Has labels.", "a", "b")
	series   = labelled.Series("x", "y")

	I     = 7
	words = []string{"a"}
	mode  = "calm"
	ratio = 1.5
	hosts = map[string]int{}
)

type Full struct {
	turns  int
	opened float64
	ticks  chan bool
}

func (*Full) Name() string            { return "full" }
func (*Full) Desc() string            { return "Has everything." }
func (*Full) Version() string         { return version }
func (*Full) Interval() time.Duration { return 50 * time.Millisecond }
func (*Full) Timeout() time.Duration  { return 5 * time.Second }

func (f *Full) Open() error {
	if ratio < 0 {
		return plugd.Refuse("the ratio is %g", ratio)
	}
	f.opened = ratio
	fmt.Println("opened with", ratio, hosts["one"])
	f.ticks = make(chan bool, 1)
	go func() {
		for range time.Tick(time.Millisecond) {
			select {
			case f.ticks <- true:
			default:
			}
		}
	}()
	return nil
}

func (f *Full) Close() error {
	fmt.Println("closed")
	return errors.New("not quite")
}

func (f *Full) Collect(samples *plugd.Samples) error {
	<-f.ticks // From a goroutine that goes on between collections.
	switch mode {
	case "panic":
		panic("out of cheese")
	case "null":
		var nobody *Full
		nobody.turns++
	case "error":
		return errors.New("no luck")
	case "labels":
		samples.Add(labelled, 1, "x")
	case "twice":
		samples.Add(plain, 1)
	case "goroutine":
		done := make(chan bool)
		plugd.Go(func() {
			defer close(done)
			panic("in there")
		})
		<-done
	}
	f.turns++
	samples.Add(plain, ratio)
	samples.Add(turns, float64(f.turns))
	samples.AddTo(series, float64(I))
	samples.Add(labelled, 1, "naïve \xff", "z\x00ero")
	return nil
}

func (*Full) Exec() map[string]interface{} {
	return map[string]interface{}{"info": []int{1, 2}, "more": map[string]string{"k": "v"}}
}

func (*Full) Reconfigure() error {
	if ratio == 13 {
		return errors.New("13 is bad luck")
	}
	return nil
}

func (f *Full) SaveState() ([]byte, error) { return []byte(strconv.Itoa(f.turns)), nil }

func (f *Full) LoadState(state []byte) (err error) {
	f.turns, err = strconv.Atoi(string(state))
	return err
}

type pair struct {
	A int    `json:"a"`
	B string `json:"b"`
}

func init() {
	full := &Full{}
	plugd.Register(full)
	plugd.Option("ratio", "A number.", &ratio).Max(100.0)
	plugd.Option("hosts", "A table.", &hosts)
	plugd.Setting("I", "An exported variable.", &I).Min(0).Max(1000)
	plugd.Setting("words", "A list.", &words)
	plugd.Setting("mode", "What Collect does.", &mode).Choices(
		"calm", "panic", "null", "error", "labels", "twice", "goroutine", "never").OnSet(func() error {
		if mode == "never" {
			return errors.New("not that")
		}
		return nil
	})
	plugd.Command("add", "Adds.", func(a, b int) int { return a + b }, "a", "b").Default("b", 2)
	plugd.Command("small", "Takes one byte.", func(n int8) int { return int(n) }, "n")
	plugd.Command("pair", "Takes and gives structure.", func(p pair, f float64) []pair { return []pair{p, {2, fmt.Sprint(f)}} }, "p", "f")
	plugd.Command("nothing", "Gives nothing.", func(bool) {}, "really")
	plugd.Command("fail", "Fails.", func() (int, error) { return 1, errors.New("no luck") })
	plugd.Command("opened", "The ratio at the beginning.", func() float64 { return full.opened })
	plugd.Command("crash", "Crashes in C.", func() { C.crash() })
	plugd.Command("stray", "Panics in a goroutine.", func() { go panic("stray"); time.Sleep(time.Second) })
	plugd.Command("garbage", "Makes so many MiB of garbage.", garbage, "mebibytes")
	plugd.Command("threads", "Has so many threads at once.", threads, "count")
	plugd.Command("spin", "Computes in every processor for some milliseconds.", spin, "milliseconds")
	plugd.Command("processors", "How many run Go code at a time.", func() int { return runtime.GOMAXPROCS(0) })
	plugd.Command("variable", "A variable of its environment.", os.Getenv, "name")
	plugd.Command("program", "Runs a program.", program)
}

func garbage(mebibytes int) (sum int) {
	for turn := 0; turn < mebibytes; turn++ {
		block := make([]byte, 1<<20)
		block[turn] = 1
		sum += int(block[turn])
	}
	return sum
}

func threads(count int) int {
	ready, done := make(chan bool), make(chan bool)
	for turn := 0; turn < count; turn++ {
		go func() {
			runtime.LockOSThread()
			ready <- true
			<-done
		}()
		<-ready
	}
	close(done)
	return count
}

// spin has no call in its loop: it is SIGURG that takes a processor from it.
func spin(milliseconds int) int {
	var stop int32
	for range make([]int, 2*runtime.GOMAXPROCS(0)) {
		go func() {
			for atomic.LoadInt32(&stop) == 0 {
			}
		}()
	}
	time.Sleep(time.Duration(milliseconds) * time.Millisecond)
	atomic.StoreInt32(&stop, 1)
	return milliseconds
}

func program() (string, error) {
	text, err := exec.Command("/bin/sh", "-c", "sleep 0.01; echo hello").Output()
	return string(text), err
}

func main() {}
