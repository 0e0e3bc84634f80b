// Package plugd is for writing plugins for plugd in Go.
//
// A plugin is a type with a name and a sentence about itself, registered by init:
//
//	package main
//
//	import "plugd"
//
//	type Cpu struct{}
//
//	func (Cpu) Name() string                 { return "cpu" }
//	func (Cpu) Desc() string                 { return "What processors there are." }
//	func (Cpu) Exec() map[string]interface{} { return map[string]interface{}{"info": 2} }
//
//	func init() { plugd.Register(Cpu{}) }
//
//	func main() {}
//
//	CGO_CFLAGS="-O2 -I$(plugd --include-dir)" go build -buildmode=c-shared -o cpu.so cpu.go
//
// What else it can do, it says by the methods it has: those of Execer, Collector, Opener, Closer, Versioned, Paced,
// Patient, Reconfigurer and Stateful. Its metrics, options, settings and commands are declared by Gauge, Counter,
// Option, Setting and Command, in package-level variables or in init.
//
// plugd calls one method at a time. A plugin may start goroutines; they add no samples once Collect has returned. What
// a method panics with is that call's failure, and the plugin goes on. A panic in a goroutine ends the process, and
// with it the plugin's worker, unless it was started by Go.
package plugd

import (
	"fmt"
	"reflect"
	"time"
)

// Plugin is what every plugin has.
type Plugin interface {
	Name() string // that of its file: "cpu" for cpu.so
	Desc() string // one sentence
}

// Execer is a plugin with something to tell when it is asked: `plugctl call NAME info` shows what is under "info", and
// `plugctl call NAME info KEY` what is under another key. The values are such as encoding/json takes.
type Execer interface {
	Exec() map[string]interface{}
}

// Collector is a plugin with metrics. An error fails the collection, of which nothing is kept then.
type Collector interface {
	Collect(samples *Samples) error
}

// Opener is called once, before anything else, when the options have their values. What it fails at is tried again
// later, unless the error is of Refuse.
type Opener interface {
	Open() error
}

// Closer is called at the end; an error is logged. It is not called if the process is killed.
type Closer interface {
	Close() error
}

// Versioned has a version of its own: "1.2.0".
type Versioned interface {
	Version() string
}

// Paced says how long it is from one collection to the next: 10 seconds if nobody says. The configuration wins.
type Paced interface {
	Interval() time.Duration
}

// Patient says how long a collection may take.
type Patient interface {
	Timeout() time.Duration
}

// Reconfigurer takes other options as it runs: they have their new values when it is called, and the old ones again if
// it returns an error. For a plugin that is none, other options are a reload.
type Reconfigurer interface {
	Reconfigure() error
}

// Stateful hands over what the next generation shall know, at a reload. The new code has to see what it is given: the
// old code may have been another version.
type Stateful interface {
	SaveState() ([]byte, error)
	LoadState(state []byte) error
}

// Register makes a value the plugin of this shared object; there is one. It is called by init.
func Register(plugin Plugin) {
	if registered != nil {
		fault("Register is called twice: a shared object holds one plugin")
	}
	registered = plugin
	checkMethods(plugin)
	if execer, ok := plugin.(Execer); ok {
		exec = execer
	}
}

// Refuse is the error of what will never do: these options, this value, these arguments. As an error of Open, it keeps
// plugd from trying again before the file or the options have changed.
func Refuse(format string, arguments ...interface{}) error {
	return refusal{fmt.Sprintf(format, arguments...)}
}

type refusal struct{ text string }

func (r refusal) Error() string { return r.text }

var (
	registered Plugin
	exec       Execer
	faults     []string // what is wrong with what was declared: all of it is told, and nothing runs
)

// fault notes what is wrong with a declaration. A panic would end the process before plugd could be told why.
func fault(format string, arguments ...interface{}) {
	faults = append(faults, fmt.Sprintf(format, arguments...))
}

var interfaces = []interface{}{
	(*Execer)(nil), (*Collector)(nil), (*Opener)(nil), (*Closer)(nil), (*Versioned)(nil), (*Paced)(nil),
	(*Patient)(nil), (*Reconfigurer)(nil), (*Stateful)(nil),
}

// checkMethods finds methods whose names mean something and whose types do not, or which are one of two: nobody would
// call them.
func checkMethods(plugin Plugin) {
	kind := reflect.TypeOf(plugin)
	for _, each := range interfaces {
		wanted := reflect.TypeOf(each).Elem()
		if kind.Implements(wanted) {
			continue
		}
		found := 0
		for number := 0; number < wanted.NumMethod(); number++ {
			name, needed := wanted.Method(number).Name, wanted.Method(number).Type
			if method, there := kind.MethodByName(name); there {
				found++
				if bound := reflect.ValueOf(plugin).Method(method.Index).Type(); bound != needed {
					fault("%s is %s; it has to be %s", name, bound, needed)
				}
			} else if kind.Kind() != reflect.Ptr && has(reflect.PtrTo(kind), name) {
				fault("%s is a method of *%s: register a pointer", name, kind)
			}
		}
		if found > 0 && found < wanted.NumMethod() {
			fault("%s has %d methods, and the plugin has %d of them", wanted, wanted.NumMethod(), found)
		}
	}
}

func has(kind reflect.Type, name string) bool {
	_, found := kind.MethodByName(name)
	return found
}
