"""Runs a fuzz target: with atheris, guided by coverage, or without it on programs made at random.

A target takes bytes and returns how many frames it has made of them; what it raises is a crash. What a run has
done is written as JSON to the file that it is given, once it has done its share: atheris ends a process without
another word.
"""

import argparse
import contextlib
import ctypes
import gc
import hashlib
import json
import os
import random
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from material import HEADS, ODD, TEXTS, mutate, seeds

ROOT = Path(__file__).parents[2]
WARM_UP = 0.2  # of all frames: then tables, caches and the corpus have their size
LONGEST = 1024  # bytes of a program
PAGE = os.sysconf("SC_PAGE_SIZE")

Target = Callable[[bytes], int]


def arguments(description: str) -> argparse.Namespace:
    """Return the flags of a fuzzer."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--frames", type=int, default=100_000, help="end after so many")
    parser.add_argument("--seed", type=int, default=0, help="another run; 0: an own one for each")
    parser.add_argument("--engine", choices=("auto", "atheris", "random"), default="auto")
    parser.add_argument("--report", type=Path, help="write what was done there, as JSON")
    parser.add_argument("--crashes", type=Path, default=Path(tempfile.gettempdir()), help="a directory for crashes")
    parser.add_argument("--corpus", type=Path, help="a directory of programs to begin with, and to add to")
    parser.add_argument("programs", nargs="*", type=Path, help="do these again, and nothing else")
    return parser.parse_args()


def instrumented(engine: str) -> contextlib.AbstractContextManager[Any]:
    """Return what plugd is to be imported in, so that atheris sees its coverage; nothing for another engine."""
    if engine == "atheris":
        import atheris

        return atheris.instrument_imports(include=["plugd"])
    return contextlib.nullcontext()


def engine_of(wanted: str) -> str:
    """Return the engine that there is; say so where it is not the better one."""
    if wanted == "random":
        return wanted
    try:
        import atheris  # noqa: F401
    except ImportError:
        if wanted == "atheris":
            raise
        print("atheris is not installed: programs are made at random, without coverage", file=sys.stderr)
        return "random"
    return "atheris"


def fuzz(name: str, target: Target, flags: argparse.Namespace, engine: str) -> None:
    """Run a target until it has done its frames, or has crashed; ends the process."""
    if flags.programs:
        for path in flags.programs:
            print(f"{path}: {target(path.read_bytes())} frames")
        finish(0)
    run = _Run(name, target, flags, engine)
    seed = flags.seed or random.SystemRandom().randrange(1, 2**31)
    print(f"{name}: {engine}, seed {seed}", file=sys.stderr)
    if engine == "atheris":
        _fuzz_with_atheris(run, flags, seed)
    else:
        source = random.Random(seed)
        pool = seeds()
        while True:
            run(mutate(source, pool, LONGEST))


def finish(status: int) -> None:
    """End the process; no loop, task or thread of a target has a say."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


class _Run:
    """Counts what a target does, and ends the process."""

    def __init__(self, name: str, target: Target, flags: argparse.Namespace, engine: str) -> None:
        self._name = name
        self._target = target
        self._flags = flags
        self._engine = engine
        self._begun = time.monotonic()
        self._frames = self._executions = 0
        self._rss_start: int | None = None

    def __call__(self, program: bytes) -> None:
        try:
            self._frames += self._target(program)
        except Exception as error:
            self._crash(program, error)
        self._executions += 1
        if self._rss_start is None and self._frames >= self._flags.frames * WARM_UP:
            self._rss_start = rss_bytes()
        if self._frames >= self._flags.frames:
            self._report(crashes=0)
            finish(0)

    def _crash(self, program: bytes, error: Exception) -> None:
        path = self._flags.crashes / f"{self._name}-{hashlib.sha256(program).hexdigest()[:12]}"
        path.write_bytes(program)
        traceback.print_exception(error)
        print(f"{self._name}: CRASH, its program is {path}; {sys.argv[0]} {path} does it again", file=sys.stderr)
        self._report(crashes=1)
        finish(1)

    def _report(self, crashes: int) -> None:
        if self._flags.report is None:
            return
        duration = time.monotonic() - self._begun
        report = {
            "target": self._name,
            "engine": self._engine,
            "frames": self._frames,
            "executions": self._executions,
            "crashes": crashes,
            "rss_start_bytes": self._rss_start or rss_bytes(),
            "rss_end_bytes": rss_bytes(),
            "duration_seconds": duration,
        }
        self._flags.report.write_text(json.dumps(report))


def _fuzz_with_atheris(run: _Run, flags: argparse.Namespace, seed: int) -> None:
    import atheris

    with tempfile.TemporaryDirectory(prefix="plugd-fuzz-") as own:
        corpus = flags.corpus or Path(own) / "corpus"
        corpus.mkdir(exist_ok=True)
        for program in seeds():
            (corpus / hashlib.sha256(program).hexdigest()[:16]).write_bytes(program)
        dictionary = Path(own) / "dictionary"
        dictionary.write_text("".join(f'"{_escaped(word)}"\n' for word in _words()))
        atheris.Setup(
            [
                sys.argv[0],
                f"-seed={seed}",
                f"-max_len={LONGEST}",
                f"-dict={dictionary}",
                f"-artifact_prefix={flags.crashes}/",
                "-timeout=60",
                "-rss_limit_mb=2048",
                "-reload=0",
                str(corpus),
            ],
            run,
        )
        atheris.Fuzz()


def _words() -> list[bytes]:
    return [*ODD, *HEADS, *(text.encode() for text in TEXTS if 0 < len(text.encode()) <= 32)]


def _escaped(word: bytes) -> str:
    return "".join(f"\\x{byte:02x}" for byte in word)


def rss_bytes() -> int:
    """Return the memory of this process: /proc/self/statm, resident, when what is free has been given back."""
    gc.collect()
    with contextlib.suppress(OSError, AttributeError):  # There is a malloc_trim(3) in glibc only.
        ctypes.CDLL(None).malloc_trim(0)
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE
