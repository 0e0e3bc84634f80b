package plugd

// #include <stdlib.h>
// #include "bridge.h"
import "C"

import (
	"reflect"
	"strings"
	"unsafe"
)

// describe makes the descriptor, in memory of C's that stays: plugd keeps pointers into it, and Go moves what is its own.
func describe() *C.struct_plugd_descriptor {
	descriptor := (*C.struct_plugd_descriptor)(allocate(1, unsafe.Sizeof(C.struct_plugd_descriptor{})))
	plugin := registered
	if plugin == nil {
		fault("nothing is registered: func init() { plugd.Register(...) } is missing")
		C.plugd_go_set_header(descriptor, 0)
		return descriptor
	}
	if exec != nil && !hasCommand("info") {
		commands = append(commands, infoCommand(exec))
	}
	descriptor.name = text(plugin.Name())
	descriptor.description = text(plugin.Desc())
	if versioned, ok := plugin.(Versioned); ok {
		descriptor.version = text(versioned.Version())
	}
	if paced, ok := plugin.(Paced); ok {
		descriptor.interval = C.double(paced.Interval().Seconds())
	}
	if patient, ok := plugin.(Patient); ok {
		descriptor.timeout = C.double(patient.Timeout().Seconds())
	}
	descriptor.metrics, descriptor.metric_count = describeMetrics(), C.uint32_t(len(metrics))
	descriptor.options, descriptor.option_count = describeOptions(), C.uint32_t(len(options))
	descriptor.settings, descriptor.setting_count = describeSettings(), C.uint32_t(len(settings))
	descriptor.commands, descriptor.command_count = describeCommands(), C.uint32_t(len(commands))
	C.plugd_go_set_header(descriptor, functionsOf(plugin))
	return descriptor
}

func functionsOf(plugin Plugin) C.uint32_t {
	var functions C.uint32_t
	if _, ok := plugin.(Closer); ok {
		functions |= C.PLUGD_GO_CLOSE
	}
	if _, ok := plugin.(Reconfigurer); ok {
		functions |= C.PLUGD_GO_RECONFIGURE
	}
	if _, ok := plugin.(Stateful); ok {
		functions |= C.PLUGD_GO_STATE
	}
	return functions
}

func hasCommand(name string) bool {
	for _, each := range commands {
		if each.name == name {
			return true
		}
	}
	return false
}

func describeMetrics() *C.struct_plugd_metric {
	first := (*C.struct_plugd_metric)(allocate(len(metrics), unsafe.Sizeof(C.struct_plugd_metric{})))
	rows := unsafe.Slice(first, len(metrics))
	for number, metric := range metrics {
		labels := (**C.char)(allocate(len(metric.labels), unsafe.Sizeof((*C.char)(nil))))
		for place, name := range metric.labels {
			unsafe.Slice(labels, len(metric.labels))[place] = text(name)
		}
		rows[number] = C.struct_plugd_metric{
			kind: C.uint32_t(metric.kind), label_count: C.uint32_t(len(metric.labels)),
			name: text(metric.name), unit: text(metric.unit), labels: labels, help: text(metric.help),
		}
	}
	return first
}

func describeOptions() *C.struct_plugd_parameter {
	parameters := make([]*parameter, 0, len(options))
	for _, option := range options {
		parameters = append(parameters, &option.parameter)
	}
	return describeParameters("option", parameters)
}

func describeSettings() *C.struct_plugd_setting {
	first := (*C.struct_plugd_setting)(allocate(len(settings), unsafe.Sizeof(C.struct_plugd_setting{})))
	rows := unsafe.Slice(first, len(settings))
	for number, setting := range settings {
		rows[number].declared = describeParameter("setting", &setting.parameter)
		C.plugd_go_set_setting(&rows[number])
	}
	return first
}

func describeCommands() *C.struct_plugd_command {
	first := (*C.struct_plugd_command)(allocate(len(commands), unsafe.Sizeof(C.struct_plugd_command{})))
	rows := unsafe.Slice(first, len(commands))
	for number, command := range commands {
		rows[number].name, rows[number].help = text(command.name), text(command.help)
		rows[number].parameters = describeParameters("parameter", command.parameters)
		rows[number].parameter_count = C.uint32_t(len(command.parameters))
		C.plugd_go_set_command(&rows[number])
	}
	return first
}

func describeParameters(what string, parameters []*parameter) *C.struct_plugd_parameter {
	first := (*C.struct_plugd_parameter)(allocate(len(parameters), unsafe.Sizeof(C.struct_plugd_parameter{})))
	rows := unsafe.Slice(first, len(parameters))
	for number, each := range parameters {
		rows[number] = describeParameter(what, each)
	}
	return first
}

func describeParameter(what string, declared *parameter) C.struct_plugd_parameter {
	choices := (*C.struct_plugd_value)(allocate(len(declared.choices), unsafe.Sizeof(C.struct_plugd_value{})))
	for place, choice := range declared.choices {
		unsafe.Slice(choices, len(declared.choices))[place] = fixed(what, declared, choice)
	}
	return C.struct_plugd_parameter{
		name: text(declared.name), help: text(declared.help), _type: C.uint32_t(typeOf(declared.kind)),
		initial: fixed(what, declared, declared.initial),
		minimum: fixed(what, declared, declared.minimum), maximum: fixed(what, declared, declared.maximum),
		choices: choices, choice_count: C.uint32_t(len(declared.choices)),
	}
}

// fixed returns a declared value in C's memory.
func fixed(what string, declared *parameter, thing interface{}) C.struct_plugd_value {
	encoded, err := encodeAs(declared.kind, thing)
	if err != nil {
		fault("%s %q: %s", what, declared.name, err)
	}
	result := C.struct_plugd_value{
		_type: C.uint32_t(encoded.kind), integer: C.int64_t(encoded.integer), number: C.double(encoded.number),
	}
	if encoded.text != "" || encoded.kind >= typeString {
		result.text, result.size = text(encoded.text), C.size_t(len(encoded.text))
	}
	return result
}

// reflected returns struct plugd_value as Go knows it; its text is copied.
func reflected(given *C.struct_plugd_value) value {
	result := value{kind: int(given._type), integer: int64(given.integer), number: float64(given.number)}
	if given.text != nil {
		result.text = string(unsafe.Slice((*byte)(unsafe.Pointer(given.text)), int(given.size)))
	}
	return result
}

// arguments returns values of the types that the parameters have.
func arguments(first *C.struct_plugd_value, parameters []*parameter) ([]reflect.Value, error) {
	result := make([]reflect.Value, len(parameters))
	for number, given := range unsafe.Slice(first, len(parameters)) {
		given := given
		decoded, err := decode(reflected(&given), parameters[number].kind)
		if err != nil {
			return nil, Refuse("%s: %s", parameters[number].name, err)
		}
		result[number] = decoded
	}
	return result, nil
}

// environment returns the environment of the process: environ(7).
func environment() []string {
	var entries []string
	for number := C.size_t(0); ; number++ {
		entry := C.plugd_go_variable(number)
		if entry == nil {
			return entries
		}
		entries = append(entries, C.GoString(entry))
	}
}

// text returns a copy in C's memory. A zero byte would end it.
func text(of string) *C.char { return C.CString(strings.ReplaceAll(of, "\x00", "")) }

// allocate returns so many structures in C's memory, all zero; nil for none.
func allocate(count int, size uintptr) unsafe.Pointer {
	if count == 0 {
		return nil
	}
	return C.calloc(C.size_t(count), C.size_t(size))
}
