"""All that a plugin's author sees: Plugin, Gauge, Counter, Sample, command, Progress and setting.

A plugin is one file. ``disk_io.py`` holds the class ``DiskIo``; the file's name is the plugin's, the first
line of its docstring the description::

    from plugd.plugin import Gauge, Plugin

    class Load(Plugin):
        interval = 10.0  # seconds

        average = Gauge("system.cpu.load_average", unit="{thread}", labels=("window",))

        def collect(self):
            for window, value in zip(("1m", "5m", "15m"), os.getloadavg()):
                yield self.average(value, window=window)
"""

from collections import deque
from collections.abc import AsyncIterable, Awaitable, Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Generic, NamedTuple, TypeVar, overload

from plugd.metric import Counter, Gauge, Metric, MetricError, Sample

if TYPE_CHECKING:
    from typing import Self

__all__ = ["Counter", "Gauge", "Metric", "MetricError", "Plugin", "Progress", "Sample", "command", "setting"]

API_VERSION = 1

F = TypeVar("F", bound=Callable[..., Any])
T = TypeVar("T")


class Plugin:
    """Base class of every plugin: subclass it, declare metrics, and yield samples from :meth:`collect`.

    One instance lives in one worker process, which runs nothing else, on its main thread. Whatever it does
    there (prints, blocks, crashes, leaks) stays there.
    """

    api: ClassVar[int] = API_VERSION
    """Version of this interface that the plugin is written for."""

    version: ClassVar[str] = "0.0.0"
    """The plugin's own version."""

    interval: ClassVar[float] = 10.0
    """Seconds between two collections, 0.01 to 86,400. The configuration has the last word."""

    timeout: ClassVar[float | None] = None
    """Seconds a collection may take before its worker is killed; None: the interval, but 1 to 30 seconds."""

    requires: ClassVar[Iterable[str]] = ()
    """Names of plugins that must run before this one, each with an optional version: ``"cpu>=1.2"``."""

    name: str
    """The plugin's name, set before ``__init__``: ``disk``, or ``disk@data`` of several instances."""

    options: Any
    """An instance of the nested ``Options``, filled from ``[plugins.NAME.options]`` before ``__init__`` runs."""

    credentials: Mapping[str, bytes]
    """Its secrets by name: those of ``[plugins.NAME] credentials``, set before ``__init__`` runs."""

    pushed: deque[Sample]
    """What :meth:`push` has taken since the last collection."""

    inputs: Mapping[str, Any]
    """The latest samples of each required plugin: ``{plugin: [{name, labels, value, time}]}``."""

    def start(self) -> None:
        """Open what the plugin needs. Called once, before the first collection; may be ``async``."""

    def stop(self) -> None:
        """Close what :meth:`start` opened. Not called when the worker is killed; may be ``async``."""

    def collect(self) -> Iterable[Sample] | AsyncIterable[Sample] | Awaitable[Iterable[Sample]]:
        """Return or yield the samples of one collection; may be ``async def``, with or without ``yield``.

        Whatever it raises fails this collection as a whole: no sample of it is kept.
        """
        raise NotImplementedError

    def push(self, *samples: Sample) -> None:
        """Hand over samples from ``async def run``, at any time: the next collection has the latest of each series."""
        self.pushed.extend(samples)

    def save_state(self) -> Any:
        """Return what the next generation shall know, at a reload: any msgpack-able value, or None."""
        return None

    def load_state(self, state: Any) -> None:
        """Take what the last generation saved; called after :meth:`start`, if it saved something."""

    if TYPE_CHECKING:  # A plugin need not have these: without the second, other options are a reload like any other.

        async def run(self) -> None:
            """Run from :meth:`start` to the end, beside collections: yield samples, or :meth:`push` them."""

        def reconfigure(self) -> None:
            """Take the new ``self.options`` without a new generation; what it raises leaves the old ones in force."""


def command(function: F) -> F:
    """Mark a method as a command: ``plugctl call NAME METHOD ARG...``.

    Arguments are converted to the method's annotations and the first line of its docstring is its help.
    It must return a msgpack-able value. May be ``async``.

    One that takes long is a generator: it yields how far it is, and what it returns is the result::

        @command
        def rescan(self) -> int:
            files = list(self.files())
            for number, file in enumerate(files):
                yield Progress(number, len(files), file.name)
                self.scan(file)
            return len(files)

    It yields a :class:`Progress`; or a float, its share from 0 to 1; or a whole number, a count; or text, what it is
    at; or nothing. At each ``yield`` collections and other requests have their turn, and a call that was cancelled,
    or whose time is over, ends: ``GeneratorExit`` is raised there, as by ``close()``. One that is ``async`` as well
    may yield likewise, and returns nothing.
    """
    function.__plugd_command__ = True  # type: ignore[attr-defined]
    return function


class Progress(NamedTuple):
    """How far a command is: what it yields, for whoever has called it.

    Attributes:
        done: so much of it.
        total: of so much; None where nobody knows.
        text: what it is at, in a few words.
    """

    done: float | None = None
    total: float | None = None
    text: str = ""


class setting(Generic[T]):  # noqa: N801 - reads as a declaration in a class body
    """A value of a running plugin that ``plugctl get`` reads and ``plugctl set`` changes.

    Args:
        default: the value until it is set; its type is the setting's type, unless the attribute is annotated.
        help: one sentence on what it does.
        minimum, maximum: inclusive bounds of a number.
        choices: the only values allowed.
    """

    def __init__(
        self,
        default: T,
        *,
        help: str = "",
        minimum: float | None = None,
        maximum: float | None = None,
        choices: Iterable[T] = (),
    ) -> None:
        self.default = default
        self.help = help
        self.minimum = minimum
        self.maximum = maximum
        self.choices = tuple(choices)
        self.name = ""

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    @overload
    def __get__(self, instance: None, owner: type) -> "Self": ...

    @overload
    def __get__(self, instance: object, owner: type) -> T: ...

    def __get__(self, instance: object | None, owner: type) -> "Self | T":
        if instance is None:
            return self
        value: T = instance.__dict__.get(self.name, self.default)
        return value

    def __set__(self, instance: object, value: T) -> None:
        instance.__dict__[self.name] = value
