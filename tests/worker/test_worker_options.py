"""Typed values from outside: options, settings, the arguments of commands."""

import inspect
import math
import pathlib
from dataclasses import dataclass
from typing import Any, Literal, Optional

import pytest

from plugd.plugin import Plugin, command, setting
from plugd.worker.failure import Failure
from plugd.worker.options import (
    bind_arguments,
    build_options,
    convert_setting,
    describe_parameters,
    options_schema,
    plain,
    setting_type,
    type_name,
)


@dataclass
class Point:
    x: int
    y: int = 0


class Disk(Plugin):
    class Options:
        device: str
        top: int = 3
        ratio: float = 0.5
        names: list[str] = []  # noqa: RUF012 - as an author writes it
        limits: dict[str, float] = {}  # noqa: RUF012
        mode: Literal["fast", "slow"] = "fast"
        point: Optional[Point] = None  # noqa: UP045 - as an author may write it
        inferred = 7
        _private = 1

        def function(self) -> None: ...


class Bare(Plugin):
    pass


def test_options_are_filled_from_what_is_given_and_the_defaults() -> None:
    """The instance has every declared attribute, and the mapping says the same."""
    instance, values, faults = build_options(Disk, {"device": "sda", "top": 5, "ratio": 1})
    assert faults == []
    assert isinstance(instance, Disk.Options)
    assert (instance.device, instance.top, instance.ratio, instance.names) == ("sda", 5, 1.0, [])
    assert type(instance.ratio) is float
    assert values == {
        "device": "sda",
        "top": 5,
        "ratio": 1.0,
        "names": [],
        "limits": {},
        "mode": "fast",
        "point": None,
        "inferred": 7,
    }


def test_nested_values_are_converted() -> None:
    """Lists, tables and tables of a type of their own."""
    given = {"device": "sda", "names": ["a"], "limits": {"a": 1}, "point": {"x": 1}}
    instance, _, faults = build_options(Disk, given)
    assert faults == []
    assert (instance.names, instance.limits, instance.point) == (["a"], {"a": 1.0}, Point(1, 0))


def test_the_class_keeps_its_own_defaults() -> None:
    """An instance that changes its list changes nobody else's."""
    instance, values, _ = build_options(Disk, {"device": "sda"})
    instance.names.append("x")
    assert Disk.Options.names == []
    assert build_options(Disk, {"device": "sda"})[1]["names"] == []
    assert values["names"] is instance.names


@pytest.mark.parametrize(
    ("given", "messages"),
    [
        ({}, ["option 'device' must be given"]),
        ({"device": 5}, ["option 'device': Expected `str`, got `int`"]),
        ({"device": "a", "top": "5"}, ["option 'top': Expected `int`, got `str`"]),
        ({"device": "a", "top": True}, ["option 'top': Expected `int`, got `bool`"]),
        ({"device": "a", "inferred": "x"}, ["option 'inferred': Expected `int`, got `str`"]),
        ({"device": "a", "mode": "medium"}, ["option 'mode': Invalid enum value 'medium' (there are: 'fast', 'slow')"]),
        ({"device": "a", "names": ["x", 1]}, ["option 'names': Expected `str`, got `int` - at `$[1]`"]),
        ({"device": "a", "limits": {"x": "y"}}, ["option 'limits': Expected `float`, got `str` - at `$[...]`"]),
        ({"device": "a", "tpo": 1}, ["no option 'tpo'; did you mean 'top'?"]),
        (
            {"top": "5", "dvice": "a"},
            [
                "no option 'dvice'; did you mean 'device'?",
                "option 'top': Expected `int`, got `str`",
                "option 'device' must be given",
            ],
        ),
    ],
)
def test_wrong_options_are_named(given: dict[str, Any], messages: list[str]) -> None:
    """Unknown, missing and ill-typed options, each with its name; a near miss with a suggestion."""
    _, _, faults = build_options(Disk, given)
    found = [fault.message for fault in faults]
    assert found == messages


@pytest.mark.parametrize("name", ["zzz", "_private", "function"])
def test_an_option_that_resembles_none_is_told_which_there_are(name: str) -> None:
    """Where nothing is close, all are named; what is private, and a method, is no option."""
    _, _, faults = build_options(Disk, {"device": "a", name: 1})
    [fault] = faults
    wanted = "top, ratio, names, limits, mode, point, inferred, device"
    assert fault.message == f"no option {name!r} (there are: {wanted})"


def test_a_plugin_without_options_takes_none() -> None:
    """Every one that is given is a fault."""
    instance, values, faults = build_options(Bare, {"a": 1, "b": 2})
    assert (instance, values) == (None, {})
    assert [fault.message for fault in faults] == [
        "option 'a': this plugin has no options",
        "option 'b': this plugin has no options",
    ]
    assert options_schema(Bare) is None


def test_options_are_inherited() -> None:
    """The options of a base class count, and its defaults may be replaced."""

    class Base:
        size: int = 1
        name: str = "a"

    class Probe(Plugin):
        class Options(Base):
            name = "b"

    assert build_options(Probe, {"size": 2})[1] == {"size": 2, "name": "b"}


def test_the_schema_says_what_the_options_are() -> None:
    """A JSON Schema: types, defaults, what is required, and nothing else allowed."""
    schema = options_schema(Disk)
    assert schema is not None
    assert schema["type"] == "object"
    assert schema["required"] == ["device"]
    assert schema["additionalProperties"] is False
    assert schema["properties"]["device"] == {"type": "string"}
    assert schema["properties"]["top"] == {"type": "integer", "default": 3}
    assert schema["properties"]["names"] == {"type": "array", "items": {"type": "string"}, "default": []}
    assert schema["properties"]["mode"] == {"enum": ["fast", "slow"], "default": "fast"}
    assert "_private" not in schema["properties"]


def test_references_in_the_schema_lead_somewhere() -> None:
    """The definition of a nested type stands at the root, where ``$ref`` looks for it."""
    schema = options_schema(Disk)
    assert schema is not None
    assert {"$ref": "#/$defs/Point"} in schema["properties"]["point"]["anyOf"]
    assert set(schema["$defs"]["Point"]["properties"]) == {"x", "y"}


def test_a_default_that_json_has_no_word_for_is_shown_as_text() -> None:
    """A path or an object of the author's own does not keep the plugin from being described."""

    class Probe(Plugin):
        class Options:
            where = pathlib.PurePosixPath("/srv")

    schema = options_schema(Probe)
    assert schema is not None
    assert schema["properties"]["where"] == {"default": "PurePosixPath('/srv')"}


class Tuned(Plugin):
    level = setting(5, minimum=0, maximum=10)
    ratio = setting(0.5, minimum=0, maximum=1)
    mode = setting("fast", choices=("fast", "slow"))
    verbose = setting(False)
    annotated: float = setting(1)  # type: ignore[assignment]
    maybe: int | None = setting(None)
    anything = setting(None)
    names: list[str] = setting([])  # type: ignore[assignment]


def convert(name: str, value: Any) -> Any:
    return convert_setting(Tuned, name, vars(Tuned)[name], value)


@pytest.mark.parametrize(
    ("name", "value", "result"),
    [
        ("level", 7, 7),
        ("level", "7", 7),
        ("level", 0, 0),
        ("level", 10, 10),
        ("ratio", "0.25", 0.25),
        ("ratio", 1, 1.0),
        ("mode", "slow", "slow"),
        ("verbose", "true", True),
        ("verbose", "0", False),
        ("verbose", True, True),
        ("annotated", "2", 2.0),
        ("maybe", "3", 3),
        ("maybe", None, None),
        ("anything", [1, "a"], [1, "a"]),
        ("names", ["a"], ["a"]),
    ],
)
def test_a_setting_takes_its_type_and_text_of_it(name: str, value: Any, result: Any) -> None:
    """What comes from a command line is text: it becomes the setting's type."""
    converted = convert(name, value)
    assert converted == result
    assert type(converted) is type(result)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("level", 11, "setting 'level': 11 is above 10"),
        ("level", "-1", "setting 'level': -1 is below 0"),
        ("level", "high", "setting 'level': Expected `int`, got `str`: 'high'"),
        ("level", 1.5, "setting 'level': Expected `int`, got `float`"),
        ("level", True, "setting 'level': Expected `int`, got `bool`"),
        ("level", None, "setting 'level': Expected `int`, got `null`"),
        ("ratio", math.nan, "setting 'ratio': nan is below 0"),
        ("ratio", math.inf, "setting 'ratio': inf is above 1"),
        ("mode", "medium", "setting 'mode': 'medium' is none of 'fast', 'slow'"),
        ("verbose", "maybe", "setting 'verbose': Expected `bool`, got `str`: 'maybe'"),
        ("names", ["a", 1], "setting 'names': Expected `str`, got `int` - at `$[1]`"),
    ],
)
def test_what_a_setting_does_not_take_is_refused(name: str, value: Any, message: str) -> None:
    """Wrong types, values out of bounds and none of the choices; a NaN is within no bounds."""
    with pytest.raises(Failure) as caught:
        convert(name, value)
    assert (caught.value.code, caught.value.message) == ("request.invalid", message)


def test_the_type_of_a_setting_is_its_annotation_or_that_of_its_default() -> None:
    """Annotated wins; a default of None says nothing."""
    types = {name: setting_type(Tuned, name, vars(Tuned)[name]) for name in ("level", "annotated", "anything", "maybe")}
    assert types == {"level": int, "annotated": float, "anything": Any, "maybe": int | None}


class Commands(Plugin):
    @command
    def plain(self, a: int, b: float = 1.5, c=None): ...

    @command
    def positional_only(self, a: int, /, b: int): ...

    @command
    def keyword_only(self, *, a: int, b: str = "x"): ...

    @command
    def many(self, first: str, *rest: int, **more: float): ...

    @command
    def nothing(self): ...

    @command
    def unknown(self, a: "NoSuchType"): ...  # type: ignore[name-defined]  # noqa: F821

    @command
    def nested(self, a: list[int], b: dict[str, int] | None = None): ...


def bind(name: str, *args: Any, **kwargs: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    return bind_arguments(name, getattr(Commands, name), args, kwargs)


@pytest.mark.parametrize(
    ("name", "args", "kwargs", "bound"),
    [
        ("plain", ("5",), {}, ((5,), {})),
        ("plain", (5, "2"), {"c": "x"}, ((5, 2.0, "x"), {})),
        ("plain", (), {"a": "1", "c": [1]}, ((1,), {"c": [1]})),
        ("positional_only", ("1", "2"), {}, ((1, 2), {})),
        ("positional_only", ("1",), {"b": "2"}, ((1, 2), {})),
        ("keyword_only", (), {"a": "1"}, ((), {"a": 1})),
        ("keyword_only", (), {"a": "1", "b": "y"}, ((), {"a": 1, "b": "y"})),
        ("many", ("x", "1", 2), {"y": "1.5"}, (("x", 1, 2), {"y": 1.5})),
        ("many", ("x",), {}, (("x",), {})),
        ("nothing", (), {}, ((), {})),
        ("unknown", ("as it came",), {}, (("as it came",), {})),
        ("nested", ([1, 2],), {"b": {"x": 1}}, (([1, 2], {"x": 1}), {})),
    ],
)
def test_arguments_are_converted_to_the_annotations(
    name: str, args: tuple[Any, ...], kwargs: dict[str, Any], bound: Any
) -> None:
    """Every kind of parameter; without an annotation, or with one that cannot be read, values pass as they are."""
    result = bind(name, *args, **kwargs)
    assert by_parameter(name, *result) == by_parameter(name, *bound)


def by_parameter(name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    """Return a call's arguments by parameter: by position or by name is the same."""
    return dict(inspect.signature(getattr(Commands, name)).bind(None, *args, **kwargs).arguments)


@pytest.mark.parametrize(
    ("name", "args", "kwargs", "message"),
    [
        ("plain", (), {}, "plain(a: int, b: float = 1.5, c=None): missing a required argument: 'a'"),
        ("plain", (1, 2, 3, 4), {}, "plain(a: int, b: float = 1.5, c=None): too many positional arguments"),
        ("plain", (1,), {"a": 1}, "plain(a: int, b: float = 1.5, c=None): multiple values for argument 'a'"),
        ("plain", (1,), {"self": 1}, "plain(a: int, b: float = 1.5, c=None): multiple values for argument 'self'"),
        ("plain", ("x",), {}, "plain(a: int, b: float = 1.5, c=None): argument 'a': Expected `int`, got `str`: 'x'"),
        ("keyword_only", (1,), {}, "keyword_only(*, a: int, b: str = 'x'): too many positional arguments"),
        ("keyword_only", (), {"b": "x"}, "keyword_only(*, a: int, b: str = 'x'): missing a required argument: 'a'"),
        ("nothing", (1,), {}, "nothing(): too many positional arguments"),
        ("nothing", (), {"x": 1}, "nothing(): got an unexpected keyword argument 'x'"),
        (
            "many",
            ("a", "x"),
            {},
            "many(first: str, *rest: int, **more: float): argument 'rest': Expected `int`, got `str`: 'x'",
        ),
        (
            "many",
            ("a",),
            {"y": "x"},
            "many(first: str, *rest: int, **more: float): argument 'more': Expected `float`, got `str`: 'x'",
        ),
    ],
)
def test_wrong_arguments_are_answered_with_the_usage(
    name: str, args: tuple[Any, ...], kwargs: dict[str, Any], message: str
) -> None:
    """Too many, too few, of the wrong type: the message shows how it is called."""
    with pytest.raises(Failure) as caught:
        bind(name, *args, **kwargs)
    assert caught.value.code == "request.invalid"
    assert caught.value.message.replace("missing a required keyword-only", "missing a required") == message


def test_the_parameters_of_a_command_are_described() -> None:
    """Name, type, whether it must be given, and the default."""
    assert describe_parameters(Commands.many) == [
        {"name": "first", "type": "str", "required": True, "default": None},
        {"name": "rest", "type": "int", "required": False, "default": None},
        {"name": "more", "type": "float", "required": False, "default": None},
    ]
    assert describe_parameters(Commands.plain)[1:] == [
        {"name": "b", "type": "float", "required": False, "default": 1.5},
        {"name": "c", "type": "Any", "required": False, "default": None},
    ]


@pytest.mark.parametrize(
    ("kind", "text"),
    [(int, "int"), (list[int], "list[int]"), (int | None, "int | None"), (Any, "Any"), (Literal["a"], "Literal['a']")],
)
def test_a_type_is_named_as_it_is_written(kind: Any, text: str) -> None:
    """No module names where an author writes none."""
    assert type_name(kind) == text


def test_what_msgpack_cannot_carry_is_shown_as_text() -> None:
    """Plain values stay; others become their repr."""
    assert plain({"a": [1, None, "b"]}) == {"a": [1, None, "b"]}
    assert plain(Point(1)) == {"x": 1, "y": 0}
    assert plain(3 + 4j) == "(3+4j)"
