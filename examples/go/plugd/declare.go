package plugd

import (
	"errors"
	"fmt"
	"reflect"
	"sort"
	"strings"
)

// Variable is an option or a setting: a variable of the plugin's that plugd writes to.
//
// Its type is that of the variable: bool, a type of integer or of float, string; everything else is taken and given as
// JSON. Its default is what the variable holds when it is declared. It is written to between two calls, never during
// one; goroutines that go on meanwhile read a copy that OnSet has made for them.
type Variable struct {
	parameter
	target reflect.Value
	hook   func() error
}

// Cmd is what Command declares.
type Cmd struct {
	name       string
	help       string
	function   reflect.Value
	parameters []*parameter
}

// parameter has a name and a type, as struct plugd_parameter.
type parameter struct {
	name     string
	help     string
	kind     reflect.Type
	initial  interface{} // nil: it must be given
	minimum  interface{}
	maximum  interface{}
	choices  []interface{}
	optional bool
}

var (
	options  []*Variable
	settings []*Variable
	commands []*Cmd
)

// Option declares what [plugins.NAME.options] may hold: the variable has its value when Open is called.
func Option(name, help string, variable interface{}) *Variable {
	option := bind("option", name, help, variable)
	options = append(options, option)
	return option
}

// Setting declares what `plugctl get` reads and `plugctl set` writes as the plugin runs.
func Setting(name, help string, variable interface{}) *Variable {
	setting := bind("setting", name, help, variable)
	settings = append(settings, setting)
	return setting
}

func bind(what, name, help string, variable interface{}) *Variable {
	pointer := reflect.ValueOf(variable)
	if pointer.Kind() != reflect.Ptr || pointer.IsNil() {
		fault("%s %q: a pointer to its variable is needed, not %T", what, name, variable)
		pointer = reflect.New(reflect.TypeOf(0))
	}
	target := pointer.Elem()
	return &Variable{
		parameter: parameter{name: name, help: help, kind: target.Type(), initial: target.Interface()},
		target:    target,
	}
}

// Min sets the least value of a number.
func (v *Variable) Min(value interface{}) *Variable {
	v.minimum = value
	return v
}

// Max sets the greatest value of a number.
func (v *Variable) Max(value interface{}) *Variable {
	v.maximum = value
	return v
}

// Choices sets the only values allowed.
func (v *Variable) Choices(values ...interface{}) *Variable {
	v.choices = values
	return v
}

// Required is for an option that must be given: it has no default.
func (v *Variable) Required() *Variable {
	v.initial = nil
	return v
}

// OnSet sets what is called when the variable has a new value. An error refuses it, and the old one is back.
func (v *Variable) OnSet(hook func() error) *Variable {
	v.hook = hook
	return v
}

// set writes to the variable.
func (v *Variable) set(value reflect.Value) error {
	old := reflect.New(v.kind).Elem()
	old.Set(v.target)
	v.target.Set(value)
	if v.hook != nil {
		if err := v.hook(); err != nil {
			v.target.Set(old)
			return Refuse("%s", err)
		}
	}
	return nil
}

// Command declares what `plugctl call NAME COMMAND ARG...` does: it calls the function. The names are those of the
// function's parameters. What it returns is the answer: nothing, a value, an error, or both.
//
//	plugd.Command("add", "Adds two numbers.", func(a, b int) int { return a + b }, "a", "b")
func Command(name, help string, function interface{}, names ...string) *Cmd {
	command := &Cmd{name: name, help: help, function: reflect.ValueOf(function)}
	commands = append(commands, command)
	if err := command.check(names); err != nil {
		fault("command %q: %s", name, err)
		return command
	}
	for number, each := range names {
		command.parameters = append(command.parameters, &parameter{name: each, kind: command.function.Type().In(number)})
	}
	return command
}

// Default makes a parameter one that need not be given; those behind it need not be given either.
func (c *Cmd) Default(name string, value interface{}) *Cmd {
	for _, each := range c.parameters {
		if each.name == name {
			each.initial = value
			return c
		}
	}
	fault("command %q: no parameter %q", c.name, name)
	return c
}

func (c *Cmd) check(names []string) error {
	if c.function.Kind() != reflect.Func || c.function.IsNil() {
		return fmt.Errorf("a function is needed, not %s", c.function.Kind())
	}
	kind := c.function.Type()
	if kind.IsVariadic() {
		return errors.New("a function with any number of parameters cannot be declared")
	}
	if kind.NumIn() != len(names) {
		return fmt.Errorf("its function has %d parameters, named are %d", kind.NumIn(), len(names))
	}
	if kind.NumOut() > 2 || kind.NumOut() == 2 && kind.Out(1) != errorType {
		return errors.New("its function must return nothing, a value, an error, or a value and an error")
	}
	return nil
}

// call calls the function and returns its value, if it has any.
func (c *Cmd) call(arguments []reflect.Value) (interface{}, error) {
	results := c.function.Call(arguments)
	if count := len(results); count > 0 && results[count-1].Type() == errorType {
		if err, failed := results[count-1].Interface().(error); failed {
			return nil, err
		}
		results = results[:count-1]
	}
	if len(results) == 0 {
		return nil, nil
	}
	return results[0].Interface(), nil
}

// infoCommand is the command of a plugin that has Exec.
func infoCommand(plugin Execer) *Cmd {
	info := func(key string) (interface{}, error) {
		all := plugin.Exec()
		if value, found := all[key]; found {
			return value, nil
		}
		keys := make([]string, 0, len(all))
		for each := range all {
			keys = append(keys, each)
		}
		sort.Strings(keys)
		return nil, Refuse("Exec has no %q; there are: %s", key, strings.Join(keys, ", "))
	}
	return &Cmd{name: "info", help: "What Exec returns under a key.", function: reflect.ValueOf(info),
		parameters: []*parameter{{name: "key", kind: reflect.TypeOf(""), initial: "info"}}}
}

var errorType = reflect.TypeOf((*error)(nil)).Elem()
