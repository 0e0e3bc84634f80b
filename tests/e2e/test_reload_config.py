"""A reload takes the configuration anew; a dry run says what it would do by it."""

from typing import Any

from harness import Daemons

PLAIN = '''"""Does little."""

from plugd.plugin import Gauge, Plugin


class {name}(Plugin):
    interval = 3600.0

    level = Gauge("test.level")

    def collect(self):
        yield self.level(1)
'''


def _two(daemon: Daemons, config: str = "") -> Any:
    return daemon(plugins={name: PLAIN.format(name=name.title()) for name in ("one", "two")}, config=config)


def test_a_dry_run_knows_the_new_configuration(daemon: Daemons) -> None:
    """It says what the reload then does, and does nothing itself."""
    running = _two(daemon)
    file = running.directory / "etc" / "plugd.toml"
    file.write_text('[plugins.one]\nenabled = false\n[plugins.two]\ninterval = "1h 1s"\n')
    told = running.call("reload", dry_run=True)
    assert {row["name"] for row in running.call("list")} == {"one", "two"}
    assert (told["unloaded"], told["reloaded"]) == (["one"], ["two"])
    done = running.call("reload")
    assert (done["unloaded"], done["reloaded"]) == (["one"], ["two"])


def test_a_dry_run_tells_an_invalid_configuration(daemon: Daemons) -> None:
    """As the reload would."""
    running = _two(daemon)
    (running.directory / "etc" / "plugd.toml").write_text("bogus = 1\n")
    assert running.plugctl("reload", "--dry-run").returncode == 1


def test_what_was_loaded_by_name_stays_though_it_is_disabled(daemon: Daemons) -> None:
    """Until somebody unloads it."""
    running = _two(daemon, "[plugins.one]\nenabled = false\n")
    assert running.call("load", names=["one"])["loaded"] == ["one"]
    assert "one" in running.call("reload")["unchanged"]
    running.call("unload", names=["one"])
    assert running.call("reload")["loaded"] == []


def test_a_deleted_file_is_unloaded_though_its_table_is_left(daemon: Daemons) -> None:
    """Its code is gone, whatever the configuration says of it."""
    running = _two(daemon, '[plugins.one]\ntimeout = "5s"\n')
    (running.plugin_dir / "one.py").unlink()
    assert running.call("reload")["unloaded"] == ["one"]
