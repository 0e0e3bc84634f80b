"""The floor under everything: plugd.rpc needs msgpack, and nothing else."""

import subprocess
import sys
from pathlib import Path

PROBE = """
import sys
before = set(sys.modules)
from plugd.rpc.address import control_socket_candidates
from plugd.rpc.codec import Decoder, TrustedDecoder, encode_notification, encode_request, encode_response
from plugd.rpc.message import Request
control_socket_candidates({}, 1000)
decoder = Decoder()
decoder.feed(encode_request(1, "m", {"a": 1}) + encode_response(1, None, []) + encode_notification("n"))
while decoder.next_message():
    pass
assert list(TrustedDecoder().feed(encode_request(1, "m"))) == [Request(1, "m", [])]
print("\\n".join(set(sys.modules) - before))
"""


def test_nothing_beyond_msgpack_and_the_standard_library_is_imported() -> None:
    """After real calls, too: the client's start and the worker's memory are what this loads."""
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", PROBE], cwd=root, capture_output=True, text=True, check=True, timeout=60
    )
    modules = {name for name in done.stdout.split() if "cython_" not in name}  # inside of msgpack's own extension
    foreign = {name for name in modules if name.partition(".")[0] not in sys.stdlib_module_names}
    assert {name.partition(".")[0] for name in foreign} == {"plugd", "msgpack"}
    assert {name for name in foreign if name.startswith("plugd")} == {
        "plugd",
        "plugd.rpc",
        "plugd.rpc.address",
        "plugd.rpc.codec",
        "plugd.rpc.message",
    }
    assert not modules & {"asyncio", "logging", "dataclasses", "socket", "pathlib", "inspect"}  # slow to import
