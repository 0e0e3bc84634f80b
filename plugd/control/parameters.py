"""The parameters of every method: msgspec converts and checks them, and makes the JSON Schema of them."""

from typing import Annotated, Any

import msgspec

Name = Annotated[
    str, msgspec.Meta(pattern=r"^[a-z][a-z0-9_.\-]{0,63}(@[a-z0-9_.\-]{1,64})?$(?!\n)")
]  # $ alone also stands before a newline at the end
Names = Annotated[list[Name], msgspec.Meta(max_length=1000)]
SomeNames = Annotated[list[Name], msgspec.Meta(min_length=1, max_length=1000)]
Pattern = Annotated[str, msgspec.Meta(min_length=1, max_length=256)]
Patterns = Annotated[list[Pattern], msgspec.Meta(max_length=64)]
Word = Annotated[str, msgspec.Meta(min_length=1, max_length=128)]
Text = Annotated[str, msgspec.Meta(max_length=512)]
Seconds = Annotated[float, msgspec.Meta(gt=0, le=31_536_000)]
Key = Annotated[str, msgspec.Meta(min_length=1, max_length=128)]
Generation = Annotated[int, msgspec.Meta(ge=0, le=2**32)]


class Parameters(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Of a method that takes none; base of the others."""


class Write(Parameters, frozen=True, kw_only=True):
    """``request_key``: of the client's choice; a repetition with the same key is answered as the first one was."""

    request_key: Key | None = None


class Change(Write, frozen=True, kw_only=True):
    """``expect_generation``: of the plugin, or by name of several; the request is refused if one has another by now."""

    expect_generation: Generation | dict[Name, Generation] | None = None


class Hello(Parameters, frozen=True, kw_only=True):
    """``client``: the client's name and version, for the log."""

    client: Text | None = None


class Stats(Parameters, frozen=True, kw_only=True):
    """``patterns``: globs of plugins and metrics; absent or empty: all."""

    patterns: Patterns | None = None


class OneName(Parameters, frozen=True, kw_only=True):
    """``name``: a plugin's name."""

    name: Name


class Load(Write, frozen=True, kw_only=True):
    """``names``: of plugins to load."""

    names: SomeNames


class Unload(Change, frozen=True, kw_only=True):
    """``names``: of plugins to unload; ``cascade``: with those that require them."""

    names: SomeNames
    cascade: bool = False


class Reload(Change, frozen=True, kw_only=True):
    """``names``: reload these, changed or not; absent or empty: whatever has changed."""

    names: Names | None = None
    dry_run: bool = False


class Pause(Change, frozen=True, kw_only=True):
    """``names``: absent or empty: all; ``duration``: seconds."""

    names: Names | None = None
    duration: Seconds | None = None
    reason: Text | None = None


class Resume(Change, frozen=True, kw_only=True):
    """``names``: absent or empty: all."""

    names: Names | None = None


class Logs(Parameters, frozen=True, kw_only=True):
    """``name``: of one plugin, of which 100 are kept; ``lines``: at most so many."""

    name: Name | None = None
    lines: Annotated[int, msgspec.Meta(ge=1, le=500)] = 50


class Get(Parameters, frozen=True, kw_only=True):
    """``setting``: one of the plugin's; absent: all of them; ``origin``: each as ``{value, origin}``."""

    name: Name
    setting: Word | None = None
    origin: bool = False


class Set(Change, frozen=True, kw_only=True):
    """``value``: text is converted to the setting's type; ``persist``: also when plugd starts anew."""

    name: Name
    setting: Word
    value: Any
    persist: bool = False


class Unset(Change, frozen=True, kw_only=True):
    """``setting``: one of the plugin's, or one that an earlier version of it had."""

    name: Name
    setting: Word


class Call(Change, frozen=True, kw_only=True):
    """``command``: one of the plugin's; text among ``args`` and ``kwargs`` is converted; ``timeout``: seconds."""

    name: Name
    command: Word
    args: list[Any] = []
    kwargs: dict[str, Any] = {}
    timeout: Annotated[float, msgspec.Meta(gt=0, le=3600)] | None = None


class Subscribe(Parameters, frozen=True, kw_only=True):
    """``patterns``: absent: all samples, empty: none; ``events``: state changes; ``interval``: seconds at least."""

    patterns: Patterns | None = None
    events: bool = False
    interval: Annotated[float, msgspec.Meta(ge=0, le=86_400)] = 0.0


class Unsubscribe(Parameters, frozen=True, kw_only=True):
    """``subscription``: as ``subscribe`` answered."""

    subscription: int


class Cancel(Parameters, frozen=True, kw_only=True):
    """``request``: the id of a request of this connection that is not answered yet."""

    request: int
