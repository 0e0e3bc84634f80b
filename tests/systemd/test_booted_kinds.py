"""Plugins of every kind in the unit: they run, confined as elsewhere, and may what the drop-ins say."""

import shutil
import subprocess
from pathlib import Path

import pytest
from harness import ROOT, wait_until
from service import Service
from test_booted_units import use_example

from plugd.worker import landlock

PROGRAMS = "/usr/local/lib/plugd"

CALLBACK = '''"""Sorts numbers by a function that the C library calls."""

import ctypes

from plugd.plugin import Gauge, Plugin


class Callback(Plugin):
    smallest = Gauge("callback.smallest")

    def collect(self):
        numbers = (ctypes.c_int * 3)(3, 1, 2)
        pointer = ctypes.POINTER(ctypes.c_int)
        compare = ctypes.CFUNCTYPE(ctypes.c_int, pointer, pointer)(lambda one, other: one[0] - other[0])
        ctypes.CDLL(None).qsort(numbers, 3, ctypes.sizeof(ctypes.c_int), compare)
        yield self.smallest(numbers[0])
'''
CHECK = """#!/bin/sh
touch /tmp/mine && echo "OK - fine | files=$(ls /tmp | wc -l)"
"""
# In a language of its own, it would be the same.
STDIO = """#!/usr/lib/plugd/bin/python
import os, sys

import msgpack

messages = msgpack.Unpacker()
answers = {"load": {"metrics": [{"name": "stdio.one"}]}, "collect": [["stdio.one", 1, {}]]}
while data := os.read(0, 65536):
    messages.feed(data)
    for _, identity, method, _ in messages:
        os.write(1, msgpack.packb([1, identity, None, answers.get(method)]))
"""
SENDER = '''"""Uses the network."""

import socket

from plugd.plugin import Gauge, Plugin


class Sender(Plugin):
    sent = Gauge("sender.sent")

    def collect(self):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            yield self.sent(sender.sendto(b"1", ("127.0.0.1", 9)))
'''
OFTEN = '[defaults]\ninterval = "500ms"\n'
CONFIGURATION = f"""
{OFTEN}
[plugins.check]
command = ["{PROGRAMS}/check"]
format = "nagios"
interval = "500ms"
[plugins.stdio]
command = ["{PROGRAMS}/stdio"]
format = "plugd"
interval = "500ms"
"""


def add_programs(plugd: Service) -> set[str]:
    """Configure a plugin of each kind, and return their names; all but the native one, which needs a compiler."""
    plugd.add_plugin("callback", CALLBACK)
    plugd.machine.write(f"{PROGRAMS}/check", CHECK, 0o755)
    plugd.machine.write(f"{PROGRAMS}/stdio", STDIO, 0o755)
    plugd.configure(CONFIGURATION)
    return {"callback", "check", "stdio"}


def add_native(plugd: Service, directory: Path) -> None:
    """Compile the example in C, and put it where plugd finds it."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("there is no cc on PATH")
    target = directory / "uptime.so"
    source = ROOT / "examples" / "native" / "c" / "uptime.c"
    include = ROOT / "plugd" / "include"
    subprocess.run([compiler, "-shared", "-fPIC", f"-I{include}", "-o", target, source], check=True, timeout=60)
    plugd.machine.copy_in(target, "/etc/plugd/plugins/uptime.so")


def wait_collected(plugd: Service, names: set[str]) -> None:
    """Wait until each of the plugins has collected twice; none may fail."""

    def collected() -> bool:
        rows = plugd.plugins()
        for name in names:
            assert not rows[name]["failures"], rows[name]
        return all(rows[name]["collects"] >= 2 for name in names)

    wait_until(collected, f"two collections of {names}")


@pytest.mark.parametrize("name", ["", "strict", "privileged-plugins"])
def test_every_kind_runs(plugd: Service, name: str) -> None:
    """A callback of ctypes, somebody else's check with a file in /tmp, and a program that speaks plugd's protocol."""
    names = add_programs(plugd)
    use_example(plugd, name)
    plugd.must("restart")
    wait_collected(plugd, names)


@pytest.mark.parametrize("name", ["", "strict"])
def test_native_plugins_run(plugd: Service, name: str, tmp_path: Path) -> None:
    """They are linked from a file in memory, where no memory may be made executable."""
    add_native(plugd, tmp_path)
    plugd.configure(OFTEN)
    use_example(plugd, name)
    plugd.must("restart")
    wait_collected(plugd, {"uptime"})


@pytest.mark.skipif(not landlock.abi(), reason="this kernel has no Landlock")
@pytest.mark.parametrize("name", ["", "strict", "privileged-plugins"])
def test_workers_can_confine_themselves(plugd: Service, name: str) -> None:
    """No system call that they need for it is denied."""
    use_example(plugd, name)
    plugd.must("restart")
    assert {plugin: plugd.ask("describe", plugin)["unconfined"] for plugin in ("cpu", "network")} == {
        "cpu": [],
        "network": [],
    }


def test_the_network_is_for_those_who_ask_for_it(plugd: Service) -> None:
    """Without network-plugins.conf nothing can be sent, not even to the machine itself."""
    plugd.configure(OFTEN)
    plugd.add_plugin("sender", SENDER)
    assert plugd.systemctl("reload").returncode == 1  # It does not get through its first collection.
    assert "Address family not supported" in plugd.plugins()["sender"]["last_error"]
    use_example(plugd, "network-plugins")
    plugd.must("restart")
    wait_collected(plugd, {"sender"})


def test_plugins_with_users_need_a_plugd_that_is_root(plugd: Service) -> None:
    """With privileged-plugins.conf, one is root, one is another, and one has a user that nobody else has."""
    users = {"load": "auto", "system": "root", "memory": "daemon"}
    plugd.configure("\n".join(f'[plugins.{name}]\nuser = "{user}"' for name, user in users.items() if user != "auto"))
    use_example(plugd, "privileged-plugins")
    plugd.must("restart")
    owners = {}
    for name in users:
        pid = plugd.plugins()[name]["pid"]
        owners[name] = int(plugd.machine.output("stat", "--format=%u", f"/proc/{pid}"))
    assert owners["system"] == 0
    assert owners["memory"] == int(plugd.machine.output("id", "-u", "daemon"))
    assert 61184 <= owners["load"] <= 65519
