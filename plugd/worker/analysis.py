"""What a plugin's source says without being run: its code, its lines, its calls of ``self.…``.

Parsing makes a megabyte or two of objects, and pages that were once touched stay with a process. So it is done in
a process that lives for these milliseconds only, and the worker gets the result.
"""

import ast
import marshal
import os
import signal
from typing import Any, NamedTuple

import msgpack

from plugd.prctl import PR_SET_PDEATHSIG, prctl
from plugd.worker.failure import Fault

READ_BYTES = 64 * 1024


class Call(NamedTuple):
    """A call of a method or metric of ``self`` in the source."""

    line: int
    attribute: str
    keywords: list[str]
    values: int  # positional arguments
    open_ended: bool  # ``*values`` or ``**labels`` among them


class Analysis(NamedTuple):
    """The result: ``classes`` are those of the module, with their lines; the rest is of one of them."""

    code: bytes  # a marshalled code object
    classes: dict[str, int]
    lines: dict[str, int]  # of the attributes of the class
    calls: list[Call]


class SourceError(Exception):
    """The source is no Python.

    Attributes:
        fault: what is wrong, and where.
    """

    def __init__(self, fault: Fault) -> None:
        super().__init__(fault.message)
        self.fault = fault


def analyse_apart(source: bytes, path: str, class_name: str) -> Analysis:
    """Analyse in a process forked for it.

    Raises:
        SourceError: the source is no Python, or so strange that the compiler dies of it.
    """
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(read)
        _answer(write, source, path, class_name)
    os.close(write)
    with open(read, "rb") as pipe:
        answer = pipe.read()
    _, status = os.waitpid(child, 0)
    if status or not answer:
        raise SourceError(Fault("cannot be compiled: the compiler died of it"))
    kind, *fields = msgpack.unpackb(answer, strict_map_key=False)
    if kind == "fault":
        raise SourceError(Fault(*fields))
    code, classes, lines, calls = fields
    return Analysis(code, classes, lines, [Call(*call) for call in calls])


def _answer(write: int, source: bytes, path: str, class_name: str) -> None:
    status = 1
    try:
        prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        answer: list[Any]
        try:
            answer = ["ok", *analyse(source, path, class_name)]
        except SourceError as error:
            answer = ["fault", *error.fault]
        with open(write, "wb") as pipe:
            pipe.write(msgpack.packb(answer))
        status = 0
    finally:
        os._exit(status)


def analyse(source: bytes, path: str, class_name: str) -> Analysis:
    """Parse and compile a module's source, and look at one of its classes.

    Raises:
        SourceError: the source is no Python.
    """
    try:
        tree = ast.parse(source, path)
        code = compile(tree, path, "exec", dont_inherit=True)
    except SyntaxError as error:
        raise SourceError(Fault(f"SyntaxError: {error.msg}", error.lineno)) from error
    except (ValueError, RecursionError, MemoryError) as error:
        raise SourceError(Fault(f"cannot be compiled: {error}")) from error
    classes = {node.name: node for node in tree.body if isinstance(node, ast.ClassDef)}
    body = classes[class_name].body if class_name in classes else []
    lines = {name: node.lineno for name, node in classes.items()}
    return Analysis(marshal.dumps(code), lines, _lines(body), _calls(body))


def _lines(body: list[ast.stmt]) -> dict[str, int]:
    lines: dict[str, int] = {}
    for node in body:
        if isinstance(node, ast.Assign):
            for target in node.targets:
                if isinstance(target, ast.Name):
                    lines[target.id] = node.lineno
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            lines[node.target.id] = node.lineno
        elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            lines[node.name] = node.lineno
    return lines


def _calls(body: list[ast.stmt]) -> list[Call]:
    return [
        Call(
            node.lineno,
            node.func.attr,
            [keyword.arg for keyword in node.keywords if keyword.arg is not None],
            len(node.args),
            any(keyword.arg is None for keyword in node.keywords)
            or any(isinstance(argument, ast.Starred) for argument in node.args),
        )
        for statement in body
        for node in ast.walk(statement)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and isinstance(node.func.value, ast.Name)
        and node.func.value.id == "self"
    ]
