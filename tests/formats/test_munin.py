"""Munin plugins: config, fetch, autoconf, and munin-node's plugin-conf.d."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plugd.formats.munin import parse_autoconf, parse_munin, parse_munin_config, parse_munin_fetch
from plugd.formats.munin_conf import (
    Group,
    PluginConf,
    PluginSettings,
    expand_command,
    is_conf_file,
    is_plugin_file,
    node_environment,
    parse_plugin_conf,
    plugin_settings,
)
from plugd.formats.reading import Parsed, Reading

# Printed by Debian's munin-plugins-core 2.0.73, shortened.
NETSTAT = b"""multigraph netstat
graph_title Netstat, combined
graph_vlabel TCP connections
graph_period second
active.label active
active.type DERIVE
active.min 0
active.info The number of active TCP openings per second.
established.label established
established.type GAUGE

multigraph netstat_established
graph_title Netstat, established only
established.label established
established.type GAUGE
"""
NETSTAT_VALUES = b"""multigraph netstat
active.value 299
established.value 4

multigraph netstat_established
established.value 4
"""
DF = b"graph_title Disk usage in percent\ngraph_vlabel %\n_dev_vda.label /\n_dev_vda.warning 92\n"


def values(parsed: Parsed) -> dict[str, float]:
    """The values by name."""
    return {reading.name: reading.value for reading in parsed.readings}


def one(config: str, fetch: str) -> Reading:
    """The only reading of an output without faults."""
    parsed = parse_munin(config.encode(), fetch.encode(), "g")
    assert parsed.faults == []
    (reading,) = parsed.readings
    return reading


def test_a_field_is_a_metric() -> None:
    """Named by graph and field, with unit and help from the configuration, and the value as printed."""
    assert parse_munin(DF, b"_dev_vda.value 22.5863803103784\n", "df").readings == [
        Reading("munin.df._dev_vda", "gauge", "%", (), 22.5863803103784, "/")
    ]


def test_multigraph_sections_name_their_fields() -> None:
    """Each field belongs to the graph last named, and has the type it has there."""
    parsed = parse_munin(NETSTAT, NETSTAT_VALUES, "netstat")
    assert [(r.name, r.kind, r.value) for r in parsed.readings] == [
        ("munin.netstat.active", "counter", 299.0),
        ("munin.netstat.established", "gauge", 4.0),
        ("munin.netstat_established.established", "gauge", 4.0),
    ]
    assert parsed.readings[0].help == "The number of active TCP openings per second."
    assert parsed.faults == []


@pytest.mark.parametrize(
    ("type_", "kind"), [("GAUGE", "gauge"), ("COUNTER", "counter"), ("DERIVE", "counter"), ("ABSOLUTE", "gauge")]
)
def test_types(type_: str, kind: str) -> None:
    """What only grows is a counter; what starts again at each reading is none."""
    assert one(f"x.type {type_}", "x.value 7").kind == kind


@pytest.mark.parametrize(
    ("lines", "unit"),
    [
        ("graph_vlabel Bytes", "By"),
        ("graph_vlabel %", "%"),
        ("graph_vlabel things per ${graph_period}", "1"),
        ("graph_vlabel bytes\nx.type DERIVE", "1"),
        ("graph_vlabel bytes\nx.cdef x,1024,*", "1"),
        ("graph_title none", "1"),
    ],
)
def test_units(lines: str, unit: str) -> None:
    """The axis is believed where what it shows is the value itself: no rate, no calculation."""
    assert one(lines, "x.value 7").unit == unit


def test_a_value_is_not_calculated_or_bounded() -> None:
    """cdef, min and max are for Munin's graphs."""
    assert one("x.cdef x,8,*\nx.min 0\nx.max 5", "x.value -7").value == -7.0


def test_a_field_outside_the_configuration_is_a_gauge() -> None:
    """Its value is still told."""
    assert one("", "steal.value 3") == Reading("munin.g.steal", "gauge", "1", (), 3.0)


@pytest.mark.parametrize("text", ["U", "nan", "N:U", "1700000000:U"])
def test_unknown_values_are_skipped(text: str) -> None:
    """They are no faults."""
    parsed = parse_munin(b"", f"x.value {text}\n".encode())
    assert (parsed.readings, parsed.faults, parsed.skipped) == ([], [], 1)


def test_supersampling() -> None:
    """Each value with a time is a reading of that time; N is now."""
    parsed = parse_munin(b"", b"x.value 1700000000:1\nx.value 1700000010:2\nx.value N:3\n", "g")
    assert [(r.value, r.time) for r in parsed.readings] == [(1.0, 1700000000.0), (2.0, 1700000010.0), (3.0, None)]


def test_a_dirty_configuration_holds_the_values() -> None:
    """Those of a fetch are newer."""
    config = b"x.label X\nx.value 1\ny.value 2\n"
    assert values(parse_munin(config, b"", "g")) == {"munin.g.x": 1.0, "munin.g.y": 2.0}
    assert values(parse_munin(config, b"y.value 3\n", "g")) == {"munin.g.x": 1.0, "munin.g.y": 3.0}


def test_a_kept_configuration_gives_no_old_values() -> None:
    """A fetch read by a configuration of long ago has its own values only."""
    config = parse_munin_config(b"x.type COUNTER\nx.value 1\n", "g")
    parsed = parse_munin_fetch(b"y.value 3\n", config, "g")
    assert values(parsed) == {"munin.g.y": 3.0}


def test_field_names_are_fitted_as_munin_does() -> None:
    """In both outputs, so that they still belong together."""
    reading = one("1-a.type COUNTER", "1-a.value 2")
    assert (reading.name, reading.kind) == ("munin.g.__a", "counter")


def test_what_plugins_print_besides_is_no_fault() -> None:
    """Comments, blank lines, the node's end mark and words for alerts."""
    parsed = parse_munin(b"# hello\n\nx.label X\n.\n", b"# Cannot cd\nx.value 1\nx.extinfo a b c\n.\n", "g")
    assert parsed.faults == []
    assert len(parsed.readings) == 1


@pytest.mark.parametrize(
    "line",
    [
        "x.value",
        "x.value 0,54",
        "x.value /var/log 1",
        "graph_title hello",
        "Can't run",
        "x.label X",
        "multigraph",
        "x.value 9:9:9",
    ],
)
def test_a_malformed_line_is_a_fault_and_the_rest_is_kept(line: str) -> None:
    """It is told with its number."""
    parsed = parse_munin(b"", f"a.value 1\n{line}\n".encode(), "g")
    assert values(parsed) == {"munin.g.a": 1.0}
    assert [fault.line for fault in parsed.faults] == [2]


@pytest.mark.parametrize("line", ["Failed to connect to database: no", "x.type gauge", "multigraph a..b"])
def test_a_malformed_configuration_is_told_first(line: str) -> None:
    """Its faults come before those of the fetch."""
    parsed = parse_munin(f"x.label X\n\n{line}\n".encode(), b"junk\nx.value 1\n", "g")
    assert [fault.line for fault in parsed.faults] == [3, 1]
    assert values(parsed) == {"munin.g.x": 1.0}


def test_values_behind_a_malformed_multigraph_are_nobodys() -> None:
    """They would have the name of another graph otherwise."""
    parsed = parse_munin(b"", b"multigraph a b\nx.value 1\nmultigraph c\nx.value 2\n", "g")
    assert values(parsed) == {"munin.c.x": 2.0}


@pytest.mark.parametrize(
    ("output", "usable", "reason"),
    [
        (b"yes\n", True, ""),
        (b"# checking\nyes\n", True, ""),
        (b"no\n", False, ""),
        (b"no (mysqladmin not found)\n", False, "mysqladmin not found"),
        (b"no (a (b) c)\n", False, "a (b) c"),
        (b"count.value 0\n", False, "answered 'count.value 0'"),
        (b"", False, "answered nothing"),
    ],
)
def test_autoconf(output: bytes, usable: bool, reason: str) -> None:
    """Only yes is yes."""
    assert parse_autoconf(output) == (usable, reason)


PIECES = st.sampled_from(
    [b"multigraph ", b"x", b".value ", b".type ", b"DERIVE", b"1", b":", b"U", b"\n", b" ", b"#", b".", b"graph_vlabel"]
)
OUTPUTS = st.one_of(st.binary(), st.lists(PIECES).map(b"".join))


@given(OUTPUTS, OUTPUTS)
def test_any_bytes_can_be_read(config: bytes, fetch: bytes) -> None:
    """Nothing raises, and each value is finite."""
    parsed = parse_munin(config, fetch, "g")
    assert all(math.isfinite(reading.value) for reading in parsed.readings)
    parse_autoconf(fetch)


# plugin-conf.d

# From Debian's munin-node 2.0.73.
DEBIAN = b"""# This file is used to configure how the plugins are invoked.
[df*]
env.warning 92
env.exclude_re ^/run/user

[exim_mailqueue]
group adm, (Debian-exim)

[if_*]
user root

[if_err_*]
user nobody
"""


def settings(plugin: str, *files: bytes) -> PluginSettings:
    """The settings by files a, b, c..., without faults."""
    conf = parse_plugin_conf([(chr(ord("a") + number), content) for number, content in enumerate(files)])
    assert conf.faults == []
    return plugin_settings(conf, plugin)


def test_the_longer_wildcard_wins() -> None:
    """if_err_eth0 runs as nobody although if_* is root."""
    assert settings("if_eth0", DEBIAN).user == "root"
    assert settings("if_err_eth0", DEBIAN).user == "nobody"
    assert settings("cpu", DEBIAN) == PluginSettings()


def test_groups_are_lists_with_optional_ones() -> None:
    """In parentheses stands a group that need not exist."""
    assert settings("exim_mailqueue", DEBIAN).groups == (Group("adm", False), Group("Debian-exim", True))


def test_a_plugins_own_section_wins_and_wildcards_fill_up() -> None:
    """Variable by variable, whatever the order in the files."""
    got = settings("df_abs", b"[df*]\nuser root\nenv.a 1\nenv.b 2\n[df_abs]\nenv.b 3\n[df_*]\nenv.a 4\ntimeout 30\n")
    assert got.environment == {"a": "4", "b": "3"}
    assert got.user == "root"
    assert got.timeout == 30.0


@pytest.mark.parametrize(
    ("plugin", "matches"), [("my_load", True), ("_load", True), ("load", False), ("_loads", False)]
)
def test_a_wildcard_may_stand_first(plugin: str, matches: bool) -> None:
    """Then the end of the name counts."""
    assert (settings(plugin, b"[*_load]\nuser x\n").user == "x") is matches


def test_a_star_alone_is_every_plugin() -> None:
    """And is the last to be asked."""
    conf = b"[*]\nuser x\ngroup g\n[a*]\nuser y\n"
    assert settings("abc", conf).user == "y"
    assert settings("abc", conf).groups == (Group("g", False),)
    assert settings("b", conf).user == "x"


def test_later_files_win() -> None:
    """Files count in the order of their names, also within one section."""
    first, second = b"[x]\nuser a\nenv.v 1\nenv.w 1\n", b"[x]\nuser b\nenv.v 2\n"
    got = settings("x", first, second)
    assert (got.user, got.environment) == ("b", {"v": "2", "w": "1"})
    conf = parse_plugin_conf([("b", second), ("a", first)])
    assert plugin_settings(conf, "x") == got


def test_all_directives() -> None:
    """Each is there, and a variable's value is the rest of the line."""
    content = b"""[x]
    user   munin # a comment
    group g1 g2,g3
    env.opts --a="b c" \\# d
    command sudo -u root %c
    timeout 60
    host_name other.example
    update_rate 300
    disable_autoconf true
    """
    assert settings("x", content) == PluginSettings(
        user="munin",
        groups=(Group("g1", False), Group("g2", False), Group("g3", False)),
        environment={"opts": '--a="b c" # d'},
        command=("sudo", "-u", "root", "%c"),
        timeout=60.0,
        host_name="other.example",
        update_rate=300.0,
        disable_autoconf=True,
    )


@pytest.mark.parametrize(
    "line",
    [
        b"user",
        b"colour red",
        b"env v=1",
        b"env. 1",
        b"env.a",
        b"timeout soon",
        b"timeout 0",
        b"timeout nan",
        b"disable_autoconf yes",
        b"env.v a\0b",
        b"[a*b]",
        b"[*a*]",
        b"[]",
    ],
)
def test_a_malformed_directive_is_a_fault_and_the_rest_is_kept(line: bytes) -> None:
    """It is told by file and line."""
    conf = parse_plugin_conf([("f", b"[x]\nuser a\n" + line + b"\n[y]\nuser b\n")])
    assert [(name, fault.line) for name, fault in conf.faults] == [("f", 3)]
    assert (plugin_settings(conf, "x").user, plugin_settings(conf, "y").user) == ("a", "b")


def test_lines_behind_a_malformed_section_are_nobodys() -> None:
    """A root's section never falls to the plugin before it."""
    conf = parse_plugin_conf([("f", b"[x]\nuser a\n[if_\nuser root\n")])
    assert plugin_settings(conf, "x").user == "a"
    assert len(conf.faults) == 1


def test_a_section_comes_first() -> None:
    """In every file anew."""
    conf = parse_plugin_conf([("a", b"[x]\nuser a\n"), ("b", b"user root\n[y]\nuser b\n")])
    assert [(name, fault.line) for name, fault in conf.faults] == [("b", 1)]
    assert plugin_settings(conf, "x").user == "a"


def test_bytes_that_are_no_utf8_reach_the_plugin() -> None:
    """A password in Latin-1 stays that."""
    value = settings("x", b"[x]\nenv.p caf\xe9\n").environment["p"]
    assert value.encode("utf-8", "surrogateescape") == b"caf\xe9"


@pytest.mark.parametrize(
    ("command", "argument", "argv"),
    [
        ((), None, ("/p/x",)),
        ((), "config", ("/p/x", "config")),
        (("sudo", "%c"), "config", ("sudo", "/p/x", "config")),
        (("nice", "%c", "-v"), "autoconf", ("nice", "/p/x", "autoconf", "-v")),
        (("other",), "config", ("other",)),
    ],
)
def test_commands(command: tuple[str, ...], argument: str | None, argv: tuple[str, ...]) -> None:
    """The argument follows the plugin's path."""
    assert expand_command(command, "/p/x", argument) == argv


@pytest.mark.parametrize(
    ("name", "read"),
    [("munin-node", True), ("a.b:c", True), (".a", False), ("a~", False), ("a.dpkg-old", False), ("a b", False)],
)
def test_files_of_the_directory(name: str, read: bool) -> None:
    """Hidden ones and left-overs are not read."""
    assert is_conf_file(name) is read


@pytest.mark.parametrize(
    ("name", "plugin"),
    [("if_eth0", True), ("a@b", True), ("x.conf", False), (".x", False), ("x.rpmnew", False), ("", False)],
)
def test_files_that_are_plugins(name: str, plugin: bool) -> None:
    """Nor are they plugins."""
    assert is_plugin_file(name) is plugin


def test_the_environment_of_the_node() -> None:
    """What plugins and Munin's plugin libraries ask for."""
    environment = node_environment("df", user="nobody", host="h.example")
    assert environment["MUNIN_LIBDIR"] == "/usr/share/munin"
    assert environment["MUNIN_PLUGSTATE"] == "/var/lib/munin-node/plugin-state/nobody"
    assert environment["MUNIN_STATEFILE"] == "/var/lib/munin-node/plugin-state/nobody/df-"
    assert environment["MUNIN_CAP_MULTIGRAPH"] == "1"
    assert environment["FQDN"] == "h.example"
    assert environment["LC_ALL"] == "C"
    assert "MUNIN_CAP_DIRTYCONFIG" not in environment
    assert node_environment("df", user="u", host="h", dirtyconfig=True)["MUNIN_CAP_DIRTYCONFIG"] == "1"


def test_reading_leaves_no_trace() -> None:
    """Settings without variables have a dictionary of their own."""
    settings("x", b"[x]\nenv.a 1\n")
    assert PluginSettings().environment == {}
    assert plugin_settings(PluginConf({}, []), "x") == PluginSettings()


CONF_PIECES = st.sampled_from(
    [b"[x]", b"[*", b"*]", b"user ", b"env.", b"a ", b"group ", b"(", b")", b"\n", b"#", b"\\", b"timeout ", b"1"]
)


@given(st.one_of(st.binary(), st.lists(CONF_PIECES).map(b"".join)))
def test_any_configuration_can_be_read(content: bytes) -> None:
    """Nothing raises."""
    plugin_settings(parse_plugin_conf([("f", content)]), "x")
