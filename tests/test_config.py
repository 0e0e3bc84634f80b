"""The configuration: files merged, values typed, and every fault named."""

import os
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plugd.catalog.spec import PluginSpec
from plugd.config import Config, ConfigError, PluginConfig, load, merge, parse, validate
from plugd.paths import defaults, shipped_plugins
from plugd.settings import Flags, resolve

EXAMPLE = Path(__file__).parent.parent / "systemd" / "plugd.toml"


def config_of(*texts: str) -> Config:
    return validate(merge(parse(text.encode(), f"{number}.toml") for number, text in enumerate(texts)))


def faults_of(*texts: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        config_of(*texts)
    return [str(fault) for fault in caught.value.faults]


def test_no_file_is_a_valid_configuration(tmp_path: Path) -> None:
    """A main file that nobody asked for may be missing; everything has its default."""
    loaded = load(str(tmp_path / "plugd.toml"), required=False)
    assert loaded.config == Config()
    assert loaded.files == ()


def test_a_required_file_that_is_missing_is_a_fault(tmp_path: Path) -> None:
    """A file named by --config must exist."""
    path = str(tmp_path / "none.toml")
    with pytest.raises(ConfigError) as caught:
        load(path, required=True)
    assert [str(fault) for fault in caught.value.faults] == [f"{path}: cannot read: no such file or directory"]


def test_a_file_that_cannot_be_read_is_a_fault_even_if_not_required(tmp_path: Path) -> None:
    """What is there and cannot be read is not silently replaced by the defaults."""
    (tmp_path / "plugd.toml").mkdir()
    with pytest.raises(ConfigError, match="cannot read: is a directory"):
        load(str(tmp_path / "plugd.toml"), required=False)


def test_a_fifo_is_a_fault_and_waits_for_nobody(tmp_path: Path) -> None:
    """Nobody need ever write to one; it would hold up a reload, and then the stop, for ever."""
    os.mkfifo(tmp_path / "plugd.toml")
    (tmp_path / "plugd.d").mkdir()
    os.mkfifo(tmp_path / "plugd.d" / "late.toml")
    with pytest.raises(ConfigError) as caught:
        load(str(tmp_path / "plugd.toml"), required=False)
    assert [fault.reason for fault in caught.value.faults] == ["cannot read: it is no regular file"] * 2


def test_dev_null_is_an_empty_configuration() -> None:
    """As whoever names it expects."""
    assert load(os.devnull, required=True).config == load(None, required=False).config


def test_drop_ins_are_merged_in_the_order_of_their_names(tmp_path: Path) -> None:
    """Tables merge, values of later files win, and hidden and other files are left alone."""
    main = tmp_path / "plugd.toml"
    main.write_text('[plugins.cpu]\ninterval = "1s"\ntimeout = "500ms"\n[plugins.cpu.options]\na = 1\nb = [1, 2]\n')
    drop_ins = tmp_path / "plugd.d"
    drop_ins.mkdir()
    (drop_ins / "20-b.toml").write_text('[plugins.cpu]\ninterval = "3s"\n')
    (drop_ins / "10-a.toml").write_text('[plugins.cpu]\ninterval = "2s"\noptions = { b = [3], c = 4 }\n')
    (drop_ins / ".30.toml").write_text("no toml")
    (drop_ins / "40.toml.bak").write_text("no toml")
    loaded = load(str(main), required=True)
    assert loaded.config.plugins == {"cpu": PluginConfig(interval=3.0, timeout=0.5, options={"a": 1, "b": [3], "c": 4})}
    assert loaded.files == (str(main), str(drop_ins / "10-a.toml"), str(drop_ins / "20-b.toml"))


def test_drop_ins_are_read_without_a_main_file(tmp_path: Path) -> None:
    """Drop-ins alone make a configuration."""
    (tmp_path / "plugd.d").mkdir()
    (tmp_path / "plugd.d" / "log.toml").write_text('log.level = "debug"')
    assert load(str(tmp_path / "plugd.toml"), required=False).config.log.level == "debug"


def test_values_get_their_types() -> None:
    """Durations become seconds, sizes bytes, modes numbers, arrays tuples."""
    config = config_of(
        """
        plugin_dirs = ["/a", "~/b"]
        [control]
        mode = "0600"
        operators = ["wheel"]
        [control.limits]
        request_bytes = "1MiB"
        partial_request = "1m"
        [defaults]
        timeout = 3
        [plugins."disk@data"]
        enabled = false
        offset = "250ms"
        settings.verbose = true
        """
    )
    assert config.plugin_dirs == ("/a", "~/b")
    assert (config.control.mode, config.control.operators) == (0o600, ("wheel",))
    assert (config.control.limits.request_bytes, config.control.limits.partial_request) == (2**20, 60.0)
    assert config.defaults.timeout == 3.0
    assert config.plugins["disk@data"] == PluginConfig(enabled=False, offset=0.25, settings={"verbose": True})


@pytest.mark.parametrize(
    ("text", "seconds"), [("0", 0.0), ('"0s"', 0.0), ("1", 1.0), ('"5m"', 300.0), ('"1d"', 86400.0)]
)
def test_points_are_written_now_and_then_or_only_at_the_end(text: str, seconds: float) -> None:
    """0 is no interval; anything else is one that a disk can stand."""
    assert config_of(f"[sampling]\nflush = {text}").sampling.flush == seconds


@pytest.mark.parametrize("text", ["0.5", '"2d"', "-1", '"soon"'])
def test_an_interval_that_is_none_is_a_fault(text: str) -> None:
    """With what it may be."""
    [fault] = faults_of(f"[sampling]\nflush = {text}")
    assert fault.startswith("0.toml: $.sampling.flush: ")


def test_every_fault_is_listed_with_the_file_that_set_the_key() -> None:
    """One look shows all there is to correct, and where."""
    assert faults_of(
        '[plugins.cpu]\ninterval = "5x"\ntimeout = "1ms"\n[log]\nlevel = "inf"\n[control]\nmode = 660\n',
        'socket = "relative"\n[plugins.cpu]\nenabled = 1\n[control.limits]\nqueue = 0\n',
    ) == [
        "0.toml: $.plugins.cpu.interval: expected a duration such as '10s' or '1h30m', got '5x'",
        "0.toml: $.plugins.cpu.timeout: must be between 10ms and 1d, got '1ms'",
        "1.toml: $.plugins.cpu.enabled: expected bool, got int",
        "0.toml: $.log.level: expected one of debug, info, warning, error, critical, got 'inf'; did you mean 'info'?",
        "0.toml: $.control.mode: expected octal permissions as text, such as '0660', got 660",
        "1.toml: $.control.limits.queue: expected int >= 1, got 0",
        "1.toml: $.socket: expected an absolute path, got 'relative'",
    ]


def test_a_value_corrected_by_a_later_file_is_no_fault() -> None:
    """Only what is in force after merging is checked."""
    assert config_of('[log]\nlevel = "loud"\n', '[log]\nlevel = "error"\n').log.level == "error"


def test_a_value_that_replaces_a_table_is_blamed_on_its_file() -> None:
    """The origin of a key is the file that has the last word, also when its kind changes."""
    assert faults_of("[control.limits]\nqueue = 1\n", "[control]\nlimits = 3\n") == [
        "1.toml: $.control.limits: expected a table, got 3"
    ]
    assert faults_of("plugins = 3", "[plugins.cpu]\nintervall = 1\n") == [
        "1.toml: $.plugins.cpu.intervall: unknown key; did you mean 'interval'?"
    ]


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("plugin_dir = []", "$.plugin_dir: unknown key; did you mean 'plugin_dirs'?"),
        ("[contrl]\nmode = 1", "$.contrl: unknown key; did you mean 'control'?"),
        ("[log]\nzzz = 1", "$.log.zzz: unknown key"),
        ("[log]\nLEVEL = 'info'", "$.log.LEVEL: unknown key; did you mean 'level'?"),
    ],
)
def test_an_unknown_key_is_a_fault_with_a_suggestion(text: str, fault: str) -> None:
    """A typing error is not ignored, and its likely meaning is named."""
    assert faults_of(text) == [f"0.toml: {fault}"]


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("plugin_dirs = ['/a', 'b']", "$.plugin_dirs[1]"),
        ("plugin_dirs = '/a'", "$.plugin_dirs"),
        ("socket = '/a\\u0000'".replace("'", '"'), "$.socket"),
        (f"socket = '/{'a' * 107}'", "$.socket"),
        ("plugins = []", "$.plugins"),
        ("plugins.cpu = true", "$.plugins.cpu"),
        ("plugins.cpu.options = 1", "$.plugins.cpu.options"),
        ("plugins.cpu.options.when = 2020-01-01", "$.plugins.cpu.options.when"),
        ("plugins.cpu.options.many = [1, 99999999999999999999]", "$.plugins.cpu.options.many[1]"),
        ("[control]\noperators = ['a', '']", "$.control.operators[1]"),
        ("[control]\nmode = '0999'", "$.control.mode"),
        ("[control]\nmode = '4755'", "$.control.mode"),
        ("[control.limits]\ndepth = 1000", "$.control.limits.depth"),
        ("[sampling]\npoints = 1.5", "$.sampling.points"),
        ("[sampling]\npoints = true", "$.sampling.points"),
        ("[limits]\nmemory = '1MiB'", "$.limits.memory"),
        ("[limits]\ncpu = 0", "$.limits.cpu"),
        ("[limits]\nopen_files = 3", "$.limits.open_files"),
        ("[limits]\nsamples = 100_001", "$.limits.samples"),
        ("[workers]\nuser = ''", "$.workers.user"),
        ("[workers]\nuser = true", "$.workers.user"),
        ("[workers]\nuser = 4294967295", "$.workers.user"),
        ("plugins.cpu.user = 'no one'", "$.plugins.cpu.user"),
        ("plugins.cpu.limits.series = 0", "$.plugins.cpu.limits.series"),
        ("plugins.cpu.environment.A = 1", "$.plugins.cpu.environment"),
        ("plugins.cpu.environment.'A=' = '1'", "$.plugins.cpu.environment"),
        ("plugins.cpu.environment.PYTHONPATH = '/x'", "$.plugins.cpu.environment"),
        (f"plugins.cpu.environment.A = '{'x' * 20_000}'", "$.plugins.cpu.environment"),
        ("plugins.cpu.sandbox.write = '/a'", "$.plugins.cpu.sandbox.write"),
        ("plugins.cpu.sandbox.write = ['~/a']", "$.plugins.cpu.sandbox.write"),
        ("plugins.cpu.sandbox.read = ['/a', 'b']", "$.plugins.cpu.sandbox.read"),
        (f"plugins.cpu.sandbox.read = {['/a'] * 65}", "$.plugins.cpu.sandbox.read"),
        (f"plugins.cpu.options.a = {'[' * 30}{']' * 30}", f"$.plugins.cpu.options.a{'[0]' * 21}"),
    ],
)
def test_a_wrong_value_is_a_fault_at_its_key(text: str, key: str) -> None:
    """The fault's key leads to the value, down to the place in an array."""
    with pytest.raises(ConfigError) as caught:
        config_of(text)
    assert [fault.key for fault in caught.value.faults] == [key]


def test_a_plugin_has_the_limits_of_all_where_it_has_none_of_its_own() -> None:
    """The two tables are put together key by key, and so is the user."""
    config = config_of(
        """
        limits = { memory = "512MiB", processes = 10 }
        workers.user = "nobody"
        [plugins.a]
        limits = { memory = "1GiB" }
        [plugins.b]
        user = 0
        """
    )
    specs = {
        name: PluginSpec(name, "python", "", b"", "", config.plugins[name]).with_defaults(config) for name in ("a", "b")
    }
    assert (specs["a"].limits.memory, specs["a"].limits.processes, specs["a"].limits.open_files) == (2**30, 10, 256)
    assert specs["b"].limits == config.limits
    assert (specs["a"].user, specs["b"].user) == ("nobody", "root")


@pytest.mark.parametrize(
    "text",
    [
        "plugins.a.limits.cpu = 1.0",
        "plugins.a.user = 'nobody'",
        "plugins.a.environment.A = 'b'",
        "plugins.a.sandbox.enabled = false",
        "limits.open_files = 20",
        "workers.user = 'nobody'",
    ],
)
def test_other_bounds_need_another_worker(text: str) -> None:
    """A worker cannot leave its bounds: a change of them is a reload, and not only another schedule."""
    before, after = config_of("[plugins.a]"), config_of("[plugins.a]", text)
    old, new = (
        PluginSpec("a", "python", "", b"", "", config.plugins["a"]).with_defaults(config) for config in (before, after)
    )
    assert not new.same_code(old)
    assert new.same_code(new)


@pytest.mark.parametrize("name", ["cpu", "a", "disk_io", "net-2.x", "disk@data", "check@8.8.8.8", "a" * 64])
def test_a_plugin_name_is_accepted(name: str) -> None:
    """Names of files, and of their instances, are names of plugins."""
    assert list(config_of(f'[plugins."{name}"]').plugins) == [name]


@pytest.mark.parametrize(
    "name", ["", "Cpu", "1a", "_a", "a b", "a/b", "../a", "a@", "@a", "a@b@c", "a\\n", "a" * 65, "ä"]
)
def test_a_plugin_name_that_could_be_no_file_is_a_fault(name: str) -> None:
    """A name is never a path, nor anything a shell or a terminal would stumble over."""
    assert len(faults_of(f'[plugins."{name}"]')) == 1


@pytest.mark.parametrize(
    ("data", "line"),
    [
        (b"a = 1\nb = \nc = 2\n", 2),
        (b"a = 1\n[log\n", 2),
        (b"a = 1\na = 2\n", 2),
        (b'a = 1\n\nb = """open\n', 3),
        (b"a = 1\nb = '\xff'\n", 2),
    ],
)
def test_a_syntax_error_names_file_and_line(data: bytes, line: int) -> None:
    """An editor can jump to it."""
    with pytest.raises(ConfigError) as caught:
        parse(data, "x.toml")
    (fault,) = caught.value.faults
    assert str(fault).startswith(f"x.toml:{line}: ")


def test_faults_of_several_files_that_cannot_be_parsed_are_listed_together(tmp_path: Path) -> None:
    """A broken main file does not hide a broken drop-in."""
    (tmp_path / "plugd.toml").write_text("=")
    (tmp_path / "plugd.d").mkdir()
    (tmp_path / "plugd.d" / "a.toml").write_text("[")
    with pytest.raises(ConfigError) as caught:
        load(str(tmp_path / "plugd.toml"), required=True)
    assert [Path(fault.file).name for fault in caught.value.faults] == ["plugd.toml", "a.toml"]


@pytest.mark.parametrize(
    "text", ["a = " + "[" * 5000, "[" + "a." * 5000 + "a]", "a = " + "{a=" * 5000, "a=" + "9" * 5000]
)
def test_a_file_that_is_hard_to_parse_is_a_fault(text: str) -> None:
    """Depth and length beyond what Python works on end in a fault, not in a traceback."""
    assert len(faults_of(text)) == 1


@given(st.text(alphabet="[]{}=\"'.,#\n\\ abc1plugins") | st.binary().map(lambda data: data.decode("latin-1")))
def test_any_text_is_a_configuration_or_faults(text: str) -> None:
    """Nothing in a file raises anything but ConfigError."""
    faults = None
    try:
        config_of(text)
    except ConfigError as error:
        faults = error.faults
    assert faults is None or (faults and all(str(fault) for fault in faults))


def test_the_example_is_the_defaults() -> None:
    """The example configuration as it is shipped changes nothing."""
    assert config_of(EXAMPLE.read_text()) == Config()


def test_what_the_example_comments_out_is_valid() -> None:
    """Every commented key can be uncommented, and what it shows as a default is the default."""
    text = re.sub(r"^#(?=[a-z\[])", "", EXAMPLE.read_text(), flags=re.MULTILINE)
    config = config_of(text)
    assert config.control.limits == Config().control.limits
    assert (config.log, config.sampling) == (Config().log, Config().sampling)
    assert (config.limits, config.workers) == (Config().limits, Config().workers)
    assert config.restart == Config().restart
    assert set(config.plugins) == {"cpu", "load", "backup", "orders", "disk@data", "root_disk"}
    uncommented = {line.split(" = ")[0] for line in text.splitlines() if re.match(r"[a-z_]+ = ", line)}
    kinds = (
        Config(), Config().control, Config().control.limits, Config().log, Config().sampling, Config().limits,
        Config().workers, Config().restart, PluginConfig(),
    )  # fmt: skip
    for kind in kinds:
        tables = {"control", "log", "defaults", "sampling", "plugins", "limits", "workers", "restart", "import_"}
        assert set(kind.__struct_fields__) - tables <= uncommented


def test_root_has_the_directories_of_the_system() -> None:
    """Root's defaults are those of the design."""
    paths = defaults({"HOME": "/root", "XDG_CONFIG_HOME": "/x"}, 0)
    assert paths.config_file == "/etc/plugd/plugd.toml"
    assert paths.plugin_dirs == ("/etc/plugd/plugins", shipped_plugins())
    assert (paths.socket, paths.state_dir) == ("/run/plugd/control.sock", "/var/lib/plugd")


def test_a_user_has_the_xdg_directories() -> None:
    """A variable of the specification is used if it is absolute, and ignored otherwise."""
    paths = defaults({"HOME": "/home/u", "XDG_CONFIG_HOME": "/c", "XDG_STATE_HOME": "relative"}, 12345)
    assert paths.config_file == "/c/plugd/plugd.toml"
    assert paths.plugin_dirs[0] == "/c/plugd/plugins"
    assert paths.state_dir == "/home/u/.local/state/plugd"


@pytest.mark.parametrize("uid", [0, 12345])
def test_directories_of_systemd_win_over_the_defaults(uid: int) -> None:
    """Of several directories the first is taken."""
    environ = {
        "HOME": "/home/u",
        "CONFIGURATION_DIRECTORY": "/etc/x:/etc/y",
        "STATE_DIRECTORY": "/var/lib/x:/var/lib/y",
        "RUNTIME_DIRECTORY": "/run/x:/run/y",
    }
    paths = defaults(environ, uid)
    assert paths.config_file == "/etc/x/plugd.toml"
    assert paths.plugin_dirs[0] == "/etc/x/plugins"
    assert (paths.socket, paths.state_dir) == ("/run/x/control.sock", "/var/lib/x")


def test_the_shipped_plugins_exist() -> None:
    """The directory is found in the source tree as in an installed package."""
    assert Path(shipped_plugins()).is_dir()


def test_a_flag_wins_over_the_configuration_and_that_over_systemd(tmp_path: Path) -> None:
    """The order of precedence, value by value."""
    main = tmp_path / "plugd.toml"
    main.write_text('socket = "/conf/s"\nstate_dir = "~/conf"\n[log]\nlevel = "error"\nformat = "json"\n')
    environ = {"HOME": "/home/u", "STATE_DIRECTORY": "/sd/state", "RUNTIME_DIRECTORY": "/sd/run"}
    flags = Flags(config=str(main), socket="/flag/s", log_level="debug")
    settings = resolve(flags, environ, 0)
    assert settings.socket == "/flag/s"
    assert settings.state_dir == "/home/u/conf"
    assert (settings.config.log.level, settings.config.log.format) == ("debug", "json")
    assert resolve(Flags(), {**environ, "CONFIGURATION_DIRECTORY": str(tmp_path / "none")}, 0).state_dir == "/sd/state"


def test_a_reload_reads_the_files_again_and_flags_still_win(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reloading sees what changed, wherever the daemon's working directory is by then."""
    monkeypatch.chdir(tmp_path)
    Path("plugd.toml").write_text('log.level = "error"')
    settings = resolve(Flags(config="plugd.toml", log_level="debug"), {"HOME": "/"}, 0)
    Path("plugd.toml").write_text('log = { level = "critical", format = "json" }')
    monkeypatch.chdir("/")
    reloaded = settings.reload_config()
    assert (reloaded.config.log.level, reloaded.config.log.format) == ("debug", "json")
    assert reloaded.config_path == str(tmp_path / "plugd.toml")


def test_a_reload_of_a_broken_file_raises_and_changes_nothing(tmp_path: Path) -> None:
    """The settings in use stay as they are."""
    main = tmp_path / "plugd.toml"
    main.write_text("sampling.points = 5")
    settings = resolve(Flags(config=str(main)), {"HOME": "/"}, 0)
    main.write_text("sampling.points = 0")
    with pytest.raises(ConfigError):
        settings.reload_config()
    assert settings.config.sampling.points == 5


def test_a_socket_path_too_long_for_the_kernel_is_a_fault() -> None:
    """It is refused by name, before anything is started."""
    with pytest.raises(ConfigError, match=r"--socket: cannot use .*: a socket's path has at most 107 bytes"):
        resolve(Flags(socket="/" + "a" * 107), {"HOME": "/", "CONFIGURATION_DIRECTORY": "/nonexistent"}, 0)


@pytest.mark.parametrize("socket", ["", "@plugd", "@"])
def test_a_socket_is_a_file(socket: str) -> None:
    """What would be an abstract socket, which has no permissions, or no path at all, is refused as a flag."""
    with pytest.raises(ConfigError, match=r"--socket: cannot use .*: it is not the path of a file"):
        resolve(Flags(socket=socket), {"HOME": "/", "CONFIGURATION_DIRECTORY": "/nonexistent"}, 0)
