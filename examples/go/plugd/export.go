package plugd

// #include <stdlib.h>
// #include "bridge.h"
import "C"

import (
	"errors"
	"fmt"
	"os"
	"reflect"
	"strings"
	"unsafe"
)

var (
	descriptor *C.struct_plugd_descriptor
	samples    Samples
)

//export plugd_go_describe
func plugd_go_describe() *C.struct_plugd_descriptor {
	if descriptor == nil {
		descriptor = describe()
	}
	return descriptor
}

//export plugd_go_open
func plugd_go_open(host *C.struct_plugd_host, given *C.struct_plugd_value) C.int {
	return guarded(host, func() error {
		if len(faults) > 0 {
			return Refuse("%s", strings.Join(faults, "; "))
		}
		if err := setOptions(given); err != nil {
			return err
		}
		if opener, ok := registered.(Opener); ok {
			return opener.Open()
		}
		return nil
	})
}

//export plugd_go_collect
func plugd_go_collect(host *C.struct_plugd_host, buffer *C.struct_plugd_buffer) C.int {
	return guarded(host, func() error {
		if err := takeEscaped(); err != nil {
			return err
		}
		collector, ok := registered.(Collector)
		if !ok {
			return nil
		}
		samples.next()
		if err := collector.Collect(&samples); err != nil {
			return err
		}
		if err := takeEscaped(); err != nil {
			return err
		}
		if err := samples.identify(func(series *Series) (uint32, error) { return identify(host, series) }); err != nil {
			return err
		}
		fill(buffer, samples.list)
		return nil
	})
}

//export plugd_go_close
func plugd_go_close(host *C.struct_plugd_host) {
	if err := recovered(registered.(Closer).Close); err != nil {
		fmt.Fprintln(os.Stderr, "Close:", err)
	}
}

//export plugd_go_reconfigure
func plugd_go_reconfigure(host *C.struct_plugd_host, given *C.struct_plugd_value) C.int {
	return guarded(host, func() error {
		old := make([]reflect.Value, len(options))
		for number, option := range options {
			old[number] = reflect.New(option.kind).Elem()
			old[number].Set(option.target)
		}
		err := setOptions(given)
		if err == nil {
			err = registered.(Reconfigurer).Reconfigure()
		}
		if err != nil {
			for number, option := range options {
				option.target.Set(old[number])
			}
		}
		return err
	})
}

//export plugd_go_save_state
func plugd_go_save_state(host *C.struct_plugd_host) C.int {
	return guarded(host, func() error {
		state, err := registered.(Stateful).SaveState()
		if err != nil {
			return err
		}
		return reply(host, value{kind: typeBytes, text: string(state)})
	})
}

//export plugd_go_load_state
func plugd_go_load_state(host *C.struct_plugd_host, state *C.struct_plugd_value) C.int {
	return guarded(host, func() error {
		given := reflected(state)
		if given.kind < typeString {
			return Refuse("the state is no text: it is not of this plugin")
		}
		return registered.(Stateful).LoadState([]byte(given.text))
	})
}

//export plugd_go_get
func plugd_go_get(host *C.struct_plugd_host, number C.uint32_t) C.int {
	return guarded(host, func() error {
		setting := settings[number]
		encoded, err := encodeAs(setting.kind, setting.target.Interface())
		if err != nil {
			return err
		}
		return reply(host, encoded)
	})
}

//export plugd_go_set
func plugd_go_set(host *C.struct_plugd_host, number C.uint32_t, given *C.struct_plugd_value) C.int {
	return guarded(host, func() error {
		setting := settings[number]
		decoded, err := decode(reflected(given), setting.kind)
		if err != nil {
			return err
		}
		return setting.set(decoded)
	})
}

//export plugd_go_call
func plugd_go_call(host *C.struct_plugd_host, number C.uint32_t, given *C.struct_plugd_value) C.int {
	return guarded(host, func() error {
		command := commands[number]
		values, err := arguments(given, command.parameters)
		if err != nil {
			return err
		}
		result, err := command.call(values)
		if err != nil {
			return err
		}
		encoded, err := encode(result)
		if err != nil {
			return err
		}
		return reply(host, encoded)
	})
}

// guarded calls a function of the plugin's; what it returns, or panics with, is told to plugd.
func guarded(host *C.struct_plugd_host, function func() error) C.int {
	err := recovered(function)
	if err == nil {
		return C.PLUGD_OK
	}
	reason := err.Error()
	copied := C.CString(reason)
	defer C.free(unsafe.Pointer(copied))
	C.plugd_go_fail(host, copied, C.size_t(len(reason)))
	if errors.As(err, &refusal{}) {
		return C.PLUGD_REFUSED
	}
	return C.PLUGD_FAILED
}

func setOptions(given *C.struct_plugd_value) error {
	parameters := make([]*parameter, 0, len(options))
	for _, option := range options {
		parameters = append(parameters, &option.parameter)
	}
	values, err := arguments(given, parameters)
	if err != nil {
		return err
	}
	for number, option := range options {
		if err := option.set(values[number]); err != nil {
			return Refuse("option %s: %s", option.name, err)
		}
	}
	return nil
}

func reply(host *C.struct_plugd_host, given value) error {
	copied := C.CString(given.text)
	defer C.free(unsafe.Pointer(copied))
	C.plugd_go_reply(host, C.uint32_t(given.kind), C.int64_t(given.integer), C.double(given.number), copied,
		C.size_t(len(given.text)))
	return nil
}

// identify asks plugd for the id of a series.
func identify(host *C.struct_plugd_host, series *Series) (uint32, error) {
	labels := make([]*C.char, len(series.labels), len(series.labels)+1)
	for place, label := range series.labels {
		labels[place] = text(label)
		defer C.free(unsafe.Pointer(labels[place]))
	}
	id := C.plugd_go_series(host, C.uint32_t(series.metric.number), &labels[:1][0], C.uint32_t(len(labels)))
	if id == C.PLUGD_NO_SERIES {
		return 0, Refuse("no series of %s", series.metric.name) // plugd knows better why, and says so.
	}
	return uint32(id), nil
}

// fill puts the samples into the buffer, as plugd_emit would: without a call into C for each.
func fill(buffer *C.struct_plugd_buffer, list []sample) {
	room := int(buffer.capacity)
	taken := len(list)
	if taken > room {
		taken = room
		buffer.overflow_series = C.uint32_t(list[room].series.id)
		buffer.overflow = C.uint64_t(len(list) - room)
	}
	series, values := unsafe.Slice(buffer.series, room), unsafe.Slice(buffer.values, room)
	for number, each := range list[:taken] {
		series[number], values[number] = C.uint32_t(each.series.id), C.double(each.value)
	}
	buffer.count = C.uint32_t(taken)
}
