"""Nagios plugins and NRPE's commands, imported as a whole."""

from harness import Daemons
from programs import metrics, write_program

CHECK = 'echo "OK: $* | n=$#"'


def test_a_directory_is_imported_with_arguments(daemon: Daemons) -> None:
    """Programs named check_* become plugins, each with its arguments of the table."""
    plugins = daemon.directory / "nagios"
    plugins.mkdir()
    for name in ("check_one", "check_two", "helper"):
        write_program(plugins / name, CHECK)
    config = (
        f'[import.nagios]\ndirectory = "{plugins}"\narguments = {{ check_one = ["-w", "a b"], check_three = [] }}\n'
    )
    running = daemon(plugins={}, config=config)
    assert [row["name"] for row in running.call("list")] == ["nagios.check_one", "nagios.check_two"]
    assert metrics(running, "nagios.check_one")[("nagios.perfdata", "label=n")] == 2
    assert running.call("why", name="nagios.check_one")["notice"] == "OK: -w a b"
    assert any("check_three" in note for note in running.call("status")["notes"])


def test_commands_of_nrpe_are_imported(daemon: Daemons) -> None:
    """Each command[NAME] line is a plugin; one that needs a shell or an argument of the server's is told of."""
    check = write_program(daemon.directory / "check", CHECK)
    (daemon.directory / "nrpe.d").mkdir()
    (daemon.directory / "nrpe.cfg").write_text(
        f"# NRPE\npid_file=/run/x\ncommand[check_root]={check} -w '20 %' \"x\"\n"
    )
    lines = f"command[piped]={check} | tail\ncommand[server]={check} $ARG1$\ncommand[fine]={check}\n"
    (daemon.directory / "nrpe.d" / "more.cfg").write_text(lines)
    (daemon.directory / "nrpe.d" / "more.txt").write_text(f"command[other]={check}\n")
    config = f'[import.nagios]\ncommands = ["{daemon.directory}/nrpe.cfg", "{daemon.directory}/nrpe.d"]\n'
    running = daemon(plugins={}, config=config)
    assert [row["name"] for row in running.call("list")] == ["nagios.check_root", "nagios.fine"]
    assert running.call("why", name="nagios.check_root")["notice"] == "OK: -w 20 % x"
    notes = " ".join(running.call("status")["notes"])
    assert "line 1: command 'piped': has a '|', which needs a shell" in notes
    assert "line 2: command 'server': has a '$'" in notes


def test_commands_of_strangers_are_not_imported(daemon: Daemons) -> None:
    """A file that says what is run must be as safe as what is run."""
    check = write_program(daemon.directory / "check", CHECK)
    (daemon.directory / "nrpe.cfg").write_text(f"command[one]={check}\n")
    (daemon.directory / "nrpe.cfg").chmod(0o666)
    running = daemon(plugins={}, config=f'[import.nagios]\ncommands = ["{daemon.directory}/nrpe.cfg"]\n')
    assert running.call("list") == []
    assert "can be written by everybody" in running.call("status")["notes"][0]
