"""The structures of ``plugd.h``, as ctypes has them. What each member means stands there; this is its layout."""

import ctypes
from ctypes import POINTER, c_char_p, c_double, c_int, c_int64, c_size_t, c_uint32, c_uint64, c_void_p
from typing import Any, ClassVar

ABI_VERSION = 1

OK, FAILED, REFUSED = 0, 1, 2
GAUGE, COUNTER = 1, 2
NULL, BOOL, INT, FLOAT, STRING, JSON, BYTES = range(7)
OPTIONAL = 1

NO_SERIES = 0xFFFFFFFF
DROPPED = 0x80000000

_Fields = list[tuple[str, Any]]


class Value(ctypes.Structure):
    """``struct plugd_value``."""

    _fields_: ClassVar[_Fields] = [
        ("type", c_uint32),
        ("reserved", c_uint32),
        ("integer", c_int64),
        ("number", c_double),
        ("text", c_void_p),
        ("size", c_size_t),
    ]


class Host(ctypes.Structure):
    """``struct plugd_host``; the functions are set by whoever makes one."""


class Buffer(ctypes.Structure):
    """``struct plugd_buffer``."""

    _fields_: ClassVar[_Fields] = [
        ("size", c_uint32),
        ("capacity", c_uint32),
        ("series", c_void_p),
        ("values", c_void_p),
        ("count", c_uint32),
        ("overflow_series", c_uint32),
        ("overflow", c_uint64),
    ]


# What a plugin calls. The host and the labels come as addresses: that is quicker than as objects.
SeriesFunction = ctypes.CFUNCTYPE(c_uint32, c_void_p, c_uint32, c_void_p, c_uint32)
ReplyFunction = ctypes.CFUNCTYPE(None, c_void_p, POINTER(Value))
FailFunction = ctypes.CFUNCTYPE(None, c_void_p, c_void_p, c_size_t)

# What plugd calls.
DescriptorFunction = ctypes.CFUNCTYPE(c_void_p)
OpenFunction = ctypes.CFUNCTYPE(c_int, POINTER(Host), POINTER(Value))
CollectFunction = ctypes.CFUNCTYPE(c_int, POINTER(Host), POINTER(Buffer))
CloseFunction = ctypes.CFUNCTYPE(None, POINTER(Host))
SaveFunction = ctypes.CFUNCTYPE(c_int, POINTER(Host))
GetFunction = ctypes.CFUNCTYPE(c_int, POINTER(Host), c_uint32)
SetFunction = ctypes.CFUNCTYPE(c_int, POINTER(Host), c_uint32, POINTER(Value))

Host._fields_ = [
    ("size", c_uint32),
    ("abi_version", c_uint32),
    ("data", c_void_p),
    ("internal", c_void_p),
    ("name", c_char_p),
    ("version", c_char_p),
    ("series", SeriesFunction),
    ("reply", ReplyFunction),
    ("fail", FailFunction),
]


class Metric(ctypes.Structure):
    """``struct plugd_metric``."""

    _fields_: ClassVar[_Fields] = [
        ("kind", c_uint32),
        ("label_count", c_uint32),
        ("name", c_char_p),
        ("unit", c_char_p),
        ("labels", c_void_p),
        ("help", c_char_p),
    ]


class Parameter(ctypes.Structure):
    """``struct plugd_parameter``."""

    _fields_: ClassVar[_Fields] = [
        ("name", c_char_p),
        ("help", c_char_p),
        ("type", c_uint32),
        ("flags", c_uint32),
        ("initial", Value),
        ("minimum", Value),
        ("maximum", Value),
        ("choices", c_void_p),
        ("choice_count", c_uint32),
        ("reserved", c_uint32),
    ]


class Setting(ctypes.Structure):
    """``struct plugd_setting``."""

    _fields_: ClassVar[_Fields] = [("get", GetFunction), ("set", SetFunction), ("declared", Parameter)]


class Command(ctypes.Structure):
    """``struct plugd_command``."""

    _fields_: ClassVar[_Fields] = [
        ("name", c_char_p),
        ("help", c_char_p),
        ("parameters", c_void_p),
        ("parameter_count", c_uint32),
        ("reserved", c_uint32),
        ("call", SetFunction),
    ]


class Header(ctypes.Structure):
    """``struct plugd_header``."""

    _fields_: ClassVar[_Fields] = [
        ("abi_version", c_uint32),
        ("descriptor_size", c_uint32),
        ("metric_size", c_uint32),
        ("parameter_size", c_uint32),
        ("setting_size", c_uint32),
        ("command_size", c_uint32),
        ("value_size", c_uint32),
        ("reserved", c_uint32),
    ]


class Descriptor(ctypes.Structure):
    """``struct plugd_descriptor``."""

    _fields_: ClassVar[_Fields] = [
        ("header", Header),
        ("name", c_char_p),
        ("version", c_char_p),
        ("description", c_char_p),
        ("interval", c_double),
        ("timeout", c_double),
        ("metrics", c_void_p),
        ("options", c_void_p),
        ("settings", c_void_p),
        ("commands", c_void_p),
        ("metric_count", c_uint32),
        ("option_count", c_uint32),
        ("setting_count", c_uint32),
        ("command_count", c_uint32),
        ("open", OpenFunction),
        ("collect", CollectFunction),
        ("close", CloseFunction),
        ("reconfigure", OpenFunction),
        ("save_state", SaveFunction),
        ("load_state", OpenFunction),
    ]


# What each structure had in the first version of this ABI. A plugin that states less was not made with plugd.h.
FIRST_SIZES: dict[str, int] = {
    "descriptor_size": Descriptor.load_state.offset + Descriptor.load_state.size,
    "metric_size": Metric.help.offset + Metric.help.size,
    "parameter_size": Parameter.reserved.offset + Parameter.reserved.size,
    "setting_size": Setting.declared.offset + Parameter.reserved.offset + Parameter.reserved.size,
    "command_size": Command.call.offset + Command.call.size,
}
