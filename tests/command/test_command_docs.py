"""The pages on other people's programs: what they show is valid, and the examples give what they say."""

import re
import shutil
from pathlib import Path

import pytest
from harness import ROOT, Daemons
from programs import metrics

from plugd.config import merge, parse, validate

EXAMPLES = ROOT / "examples" / "commands"
BLOCKS = re.compile(r"```toml\n(.*?)```", re.DOTALL)


@pytest.mark.parametrize("page", ["docs/commands.md", "docs/stdio.md"])
def test_every_table_of_the_pages_is_valid(page: str) -> None:
    """Each block of TOML is a configuration."""
    blocks = BLOCKS.findall((ROOT / page).read_text())
    assert blocks
    for block in blocks:
        validate(merge([parse(block.encode(), page)]))


def test_the_examples_give_what_the_page_shows(daemon: Daemons) -> None:
    """Each script of examples/commands runs as its configuration says, and has the metrics of docs/commands.md."""
    for script in EXAMPLES.glob("*.sh"):
        shutil.copy2(script, daemon.directory)
    config = (EXAMPLES / "plugd.toml").read_text().replace("/usr/local/lib/plugd", str(daemon.directory))
    config = config.partition("[import")[0]
    if not Path("/usr/lib/nagios/plugins/check_load").exists():
        config = "[plugins.entropy]" + config.partition("[plugins.entropy]")[2]
    running = daemon(plugins={}, config=config)
    assert {row["name"]: row["last_error"] for row in running.call("list") if row["last_error"]} == {}
    page = (ROOT / "docs" / "commands.md").read_text()
    for name in ("entropy", "sockets", "uptime"):
        shown = set(re.findall(rf"^{name} +(\S+) .*$", page, re.MULTILINE))
        assert shown == {key[0] for key in metrics(running, name)}, name
