package plugd

import (
	"encoding/json"
	"fmt"
	"reflect"
)

// What struct plugd_value can hold: PLUGD_TYPE_...
const (
	typeNull   = 0
	typeBool   = 1
	typeInt    = 2
	typeFloat  = 3
	typeString = 4
	typeJSON   = 5
	typeBytes  = 6
)

// value is struct plugd_value in Go.
type value struct {
	kind    int
	integer int64
	number  float64
	text    string
}

// typeOf returns how plugd knows a type of Go's.
func typeOf(kind reflect.Type) int {
	switch kind.Kind() {
	case reflect.Bool:
		return typeBool
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64,
		reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return typeInt
	case reflect.Float32, reflect.Float64:
		return typeFloat
	case reflect.String:
		return typeString
	}
	return typeJSON
}

// encode returns anything as plugd takes it.
func encode(thing interface{}) (value, error) {
	if thing == nil {
		return value{}, nil
	}
	held := reflect.ValueOf(thing)
	switch typeOf(held.Type()) {
	case typeBool:
		if held.Bool() {
			return value{kind: typeBool, integer: 1}, nil
		}
		return value{kind: typeBool}, nil
	case typeInt:
		if !held.CanInt() {
			if held.Uint() > 1<<63-1 {
				return value{}, fmt.Errorf("%d is beyond 64 bits with a sign", held.Uint())
			}
			return value{kind: typeInt, integer: int64(held.Uint())}, nil
		}
		return value{kind: typeInt, integer: held.Int()}, nil
	case typeFloat:
		return value{kind: typeFloat, number: held.Float()}, nil
	case typeString:
		return value{kind: typeString, text: held.String()}, nil
	}
	return encodeJSON(thing)
}

// encodeAs returns a declared value of a parameter: one of a type that is JSON to plugd stays JSON, whatever it holds.
func encodeAs(kind reflect.Type, thing interface{}) (value, error) {
	if thing != nil && typeOf(kind) == typeJSON {
		return encodeJSON(thing)
	}
	return encode(thing)
}

func encodeJSON(thing interface{}) (value, error) {
	text, err := json.Marshal(thing)
	if err != nil {
		return value{}, err
	}
	return value{kind: typeJSON, text: string(text)}, nil
}

// decode returns what plugd gives as a type of Go's; what is optional and not given is that type's zero.
func decode(given value, kind reflect.Type) (reflect.Value, error) {
	result := reflect.New(kind).Elem()
	if given.kind == typeNull {
		return result, nil
	}
	switch typeOf(kind) {
	case typeBool:
		result.SetBool(given.integer != 0)
	case typeInt:
		if !result.CanInt() {
			if given.integer < 0 || result.OverflowUint(uint64(given.integer)) {
				return result, Refuse("%d does not fit into %s", given.integer, kind)
			}
			result.SetUint(uint64(given.integer))
			break
		}
		if result.OverflowInt(given.integer) {
			return result, Refuse("%d does not fit into %s", given.integer, kind)
		}
		result.SetInt(given.integer)
	case typeFloat:
		result.SetFloat(given.number)
	case typeString:
		result.SetString(given.text)
	default:
		if err := json.Unmarshal([]byte(given.text), result.Addr().Interface()); err != nil {
			return result, Refuse("%s", err)
		}
	}
	return result, nil
}
