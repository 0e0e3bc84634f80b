"""The host of a native plugin: linking, declarations, and everything that plugd and a plugin give to one another."""

import struct
import time
from pathlib import Path

import pytest
from native_rig import Compiler, Loaded, faults, plugin_source

from plugd.worker.failure import Failure

FULL = Path("full.c")


def failure(function: object, *args: object, **kwargs: object) -> tuple[str, str]:
    """Return the code and the message of the failure that a call is."""
    with pytest.raises(Failure) as caught:
        function(*args, **kwargs)  # type: ignore[operator]
    return caught.value.code, caught.value.message


# What a plugin declares


def test_a_plugin_is_what_it_declares(build: Compiler) -> None:
    """Version, ABI, durations, and its metrics in their order."""
    summary = Loaded(build(FULL), name="full").summary
    assert summary == {
        "version": "1.2.0",
        "api": 1,
        "description": "Has everything.",
        "interval": 0.1,
        "timeout": 5.0,
        "requires": [],
        "reconfigurable": True,
        "metrics": [
            {"name": "full.plain", "kind": "gauge", "unit": "s", "labels": [], "help": "What the option says."},
            {
                "name": "full.labelled",
                "kind": "gauge",
                "unit": "1",
                "labels": ["mode", "cpu.logical_number"],
                "help": "",
            },
            {"name": "full.collected", "kind": "counter", "unit": "{collection}", "labels": [], "help": "Collections."},
        ],
    }


def test_what_is_not_declared_has_its_usual_value(build: Compiler) -> None:
    """Of a plugin that declares collect() and nothing else."""
    source = """#include <plugd.h>
    static int collect(struct plugd_host *host, struct plugd_buffer *buffer) { (void)host, (void)buffer; return 0; }
    static const struct plugd_descriptor plugin = {.header = PLUGD_HEADER, .collect = collect};
    const struct plugd_descriptor *plugd_plugin(void) { return &plugin; }
    """
    loaded = Loaded(build(source))
    assert loaded.summary == {
        "version": "0.0.0",
        "api": 1,
        "description": "",
        "interval": 10.0,
        "timeout": None,
        "requires": [],
        "reconfigurable": False,
        "metrics": [],
    }
    assert loaded.collect() == {}
    assert loaded.host.save_state({}) is None
    assert loaded.host.load_state({"state": 1}) is None  # type: ignore[func-returns-value]
    assert loaded.host.get({}) == {}
    assert loaded.host.describe({}) == {"commands": [], "settings": [], "options": {}, "options_schema": None}
    loaded.host.stop({})


FAULTY = """
#include <plugd.h>
static const char *const twice[] = {"a", "a"};
static const char *const odd[] = {"no label"};
static const struct plugd_metric metrics[] = {
    {.kind = 7, .name = "kind"},
    {.kind = PLUGD_GAUGE, .name = "9 lives"},
    {.kind = PLUGD_GAUGE, .name = "unit", .unit = "two words"},
    {.kind = PLUGD_GAUGE, .name = "labels", .labels = twice, .label_count = 2},
    {.kind = PLUGD_GAUGE, .name = "label", .labels = odd, .label_count = 1},
    {.kind = PLUGD_GAUGE, .name = "null", .label_count = 3},
    {.kind = PLUGD_GAUGE, .name = "unit"},
    {.kind = PLUGD_GAUGE},
    {.kind = PLUGD_GAUGE, .name = "help", .help = "\\xff"},
};
static const struct plugd_value choices[] = {PLUGD_INT(1), PLUGD_STRING("x")};
static const struct plugd_parameter options[] = {
    {.name = "untyped"},
    {.name = "no word", .type = PLUGD_TYPE_INT},
    {.name = "low", .type = PLUGD_TYPE_INT, .initial = PLUGD_INT(0), .minimum = PLUGD_INT(1)},
    {.name = "text", .type = PLUGD_TYPE_STRING, .minimum = PLUGD_INT(1)},
    {.name = "wrong", .type = PLUGD_TYPE_BOOL, .initial = PLUGD_STRING("yes")},
    {.name = "choice", .type = PLUGD_TYPE_INT, .choices = choices, .choice_count = 2, .initial = PLUGD_INT(3)},
    {.name = "flags", .type = PLUGD_TYPE_INT, .flags = 4},
    {.name = "low", .type = PLUGD_TYPE_INT},
};
static const struct plugd_setting settings[] = {
    {.declared = {.name = "level", .type = PLUGD_TYPE_INT}},
};
static const struct plugd_parameter parameters[] = {
    {.name = "a", .type = PLUGD_TYPE_INT, .initial = PLUGD_INT(1)},
    {.name = "b", .type = PLUGD_TYPE_INT},
};
static const struct plugd_command commands[] = {
    {.name = "go", .parameters = parameters, .parameter_count = 2},
};
static const struct plugd_descriptor plugin = {
    .header = PLUGD_HEADER, .name = "other", .version = "one", .interval = -1, .timeout = 1e6,
    .metrics = metrics, .metric_count = PLUGD_COUNT(metrics), .options = options, .option_count = PLUGD_COUNT(options),
    .settings = settings, .setting_count = PLUGD_COUNT(settings), .commands = commands, .command_count = 1,
};
const struct plugd_descriptor *plugd_plugin(void) { return &plugin; }
"""


def test_all_faults_of_a_declaration_are_told_at_once(build: Compiler) -> None:
    """In the order in which they are declared, and nothing of the plugin is opened."""
    assert faults(build(FAULTY)) == [
        "no collect() function",
        "it calls itself 'other': the file must be named other.so, not probe.so",
        "version must be text such as \"1.2\", not 'one'",
        "interval must be 0.01 to 86400 seconds, not -1.0",
        "timeout must be 0.01 to 86400 seconds, not 1000000.0",
        "metric 'kind': kind 7 is neither PLUGD_GAUGE nor PLUGD_COUNTER",
        "metric '9 lives': not a metric name: a letter, then letters, digits and _ . - /",
        "metric 'unit': not a UCUM unit: 'two words'",
        "metric 'labels': a label is declared twice",
        "metric 'label': not a label name: 'no label'",
        "metric 'null': 3 labels, and labels is NULL",
        "metric 'unit': declared twice",
        "metric '': not a metric name: a letter, then letters, digits and _ . - /",
        "metric 'help': help is not UTF-8: b'\\xff'",
        "option 'untyped': type 0 is none of PLUGD_TYPE_BOOL, _INT, _FLOAT, _STRING, _JSON",
        "option 'no word': not a name: a letter or _, then letters, digits and _",
        "option 'low': the default 0 is below 1",
        "option 'text': bounds are for numbers",
        "option 'wrong': the default is of type str, not bool",
        "option 'choice': a choice is of type str, not int",
        "option 'choice': the default 3 is none of 1, None",
        "option 'flags': flags 0x4 are not all known to this plugd",
        "option 'low': declared twice",
        "setting 'level': without a default",
        "setting 'level': neither a get() nor a set() function",
        "command 'go': no call() function",
        "command 'go': parameter 'b' must be given, and 'a' need not",
    ]


@pytest.mark.parametrize("name", ["probe", "libprobe", "probe@second"])
def test_a_plugin_may_say_its_name(name: str, build: Compiler) -> None:
    """That of its file, with or without what compilers put before it."""
    built = build(plugin_source("", '.name = "probe",'))
    Loaded(built, name=name)
    assert faults(built, name="renamed") == ["it calls itself 'probe': the file must be named probe.so, not renamed.so"]


# Versions


def header(**changes: str) -> str:
    """Return a plugin whose header is changed when it is asked for."""
    lines = "".join(f"copy.header.{member} = {value};" for member, value in changes.items())
    return (
        plugin_source("")
        .replace("{ return &plugin; }", "{ copy = plugin; " + lines + " return &copy; }")
        .replace(
            "const struct plugd_descriptor *plugd_plugin",
            "static struct plugd_descriptor copy;\nconst struct plugd_descriptor *plugd_plugin",
        )
    )


@pytest.mark.parametrize("version", [0, 2, 77])
def test_another_abi_is_refused_with_both_versions(version: int, build: Compiler) -> None:
    """And nothing else of the descriptor is looked at: it may be anything."""
    built = build(header(abi_version=str(version), descriptor_size="0", metric_size="1u << 31"))
    remedy = "compile it again with the plugd.h of this plugd (plugd --include-dir)"
    assert faults(built) == [f"written for ABI {version}; this plugd speaks ABI 1: {remedy}"]


def test_sizes_that_no_header_had_are_refused(build: Compiler) -> None:
    """Smaller than in the first version, or out of all reason."""
    built = build(header(descriptor_size="100", command_size="1u << 20", value_size="32"))
    assert faults(built) == [
        "header: descriptor_size is 100, of ABI 1 it is at least 168",
        "header: command_size is 1048576, of ABI 1 it is at least 40",
        "header: value_size is 32, of ABI 1 it is 40",
    ]


LATER = """
#include <plugd.h>
static int collect(struct plugd_host *host, struct plugd_buffer *buffer)
{{
    plugd_emit(buffer, plugd_series0(host, 0), 1.0);
    plugd_emit(buffer, plugd_series0(host, 1), 2.0);
    return PLUGD_OK;
}}
static const struct later_metric {{ struct plugd_metric known; const void *new_member; }} metrics[] = {{
    {{.known = {{.kind = PLUGD_GAUGE, .name = "first"}}}},
    {{.known = {{.kind = PLUGD_GAUGE, .name = "second"}}, .new_member = {metric}}},
}};
static const struct later_plugin {{ struct plugd_descriptor known; int (*new_function)(void); }} plugin = {{
    .known = {{
        .header = {{PLUGD_ABI_VERSION, sizeof(struct later_plugin), sizeof(struct later_metric),
                    sizeof(struct plugd_parameter), sizeof(struct plugd_setting), sizeof(struct plugd_command),
                    sizeof(struct plugd_value), 0}},
        .metrics = &metrics[0].known, .metric_count = 2, .collect = collect,
    }},
    .new_function = {function},
}};
const struct plugd_descriptor *plugd_plugin(void) {{ return &plugin.known; }}
"""


def test_a_plugin_of_a_later_header_runs(build: Compiler) -> None:
    """As long as it uses nothing of what is new there."""
    loaded = Loaded(build(LATER.format(metric="NULL", function="NULL")))
    assert loaded.collect() == {("first",): 1.0, ("second",): 2.0}


def test_a_plugin_that_needs_a_later_plugd_is_refused(build: Compiler) -> None:
    """What it uses would be left undone."""
    built = build(LATER.format(metric='"x"', function="(int (*)(void))1"))
    assert faults(built) == [
        "struct plugd_descriptor: it uses what a later plugd has, and this one does not know",
        "metric 1: it uses what a later plugd has, and this one does not know",
    ]


# Linking


def test_everything_that_is_missing_is_named(build: Compiler) -> None:
    """Not only the first, as the loader does."""
    source = "extern int first_one(void), second_one(void);\n" + plugin_source("return first_one() + second_one();")
    assert faults(build(source)) == [
        "undefined symbol 'first_one': nothing that it is linked with has it",
        "undefined symbol 'second_one': nothing that it is linked with has it",
    ]


def test_a_missing_library_is_named(build: Compiler, tmp_path: Path) -> None:
    """It was there when the plugin was linked."""
    library = tmp_path / "libgone.so.1"
    library.write_bytes(build("int gone;\n", "-Wl,-soname,libgone.so.1").read_bytes())
    built = build(plugin_source("extern int gone; return gone;"), str(library))
    [first, *_] = faults(built)
    assert first.startswith("needs libgone.so.1, which cannot be linked: cannot open shared object file")


def test_no_descriptor_is_a_fault(build: Compiler) -> None:
    """The function is there, and returns NULL."""
    source = plugin_source("").replace("{ return &plugin; }", "{ (void)plugin; return NULL; }")
    assert faults(build(source)) == ["plugd_plugin() returned NULL"]


def test_what_is_no_plugin_is_never_linked(build: Compiler, tmp_path: Path) -> None:
    """Its constructors do not run."""
    marker = tmp_path / "ran"
    source = f"""#include <stdio.h>
    __attribute__((constructor)) static void begin(void) {{ fclose(fopen("{marker}", "w")); }}"""
    assert faults(build(source))[0].startswith("missing symbol 'plugd_plugin'")
    assert not marker.exists()


# Options


def test_options_come_typed_with_their_defaults(build: Compiler) -> None:
    """In the order in which they are declared; tables as JSON; what is optional as null."""
    loaded = Loaded(
        build(FULL), name="full", options={"count": 5, "ratio": 2, "tree": {"a": [1, None]}, "shown": False}
    )
    assert loaded.host.get({"setting": "given"}) == 'ratio=2 count=5 path=/ shown=0 tree={"a":[1,null]} nothing=null'
    assert loaded.collect()[("full.plain",)] == 2.0


def test_all_wrong_options_are_told_at_once(build: Compiler) -> None:
    """As those of a Python plugin."""
    options = {"ratoi": 1, "count": 11, "path": 3, "shown": "yes"}
    assert faults(build(FULL), name="full", options=options, settings={"level": "high", "given": "x", "no": 1}) == [
        "no option 'ratoi'; did you mean 'ratio'?",
        "option 'count': 11 is above 10",
        "option 'path': Expected `str`, got `int`",
        "option 'shown': Expected `bool`, got `str`",
        "setting 'level': Expected `int`, got `str`",
        "setting 'given': it can be read only",
        "no setting 'no' (there are: given, level, mode)",
    ]


def test_a_plugin_without_options_takes_none(build: Compiler) -> None:
    """One that is given is a fault."""
    assert faults(build(plugin_source("")), options={"x": 1}) == ["option 'x': this plugin has no options"]


def test_an_option_without_default_must_be_given(build: Compiler) -> None:
    """The plugin need not look whether it was."""
    before = 'static const struct plugd_parameter options[] = {{.name = "url", .type = PLUGD_TYPE_STRING}};'
    built = build(plugin_source("", ".options = options, .option_count = 1,", before))
    assert faults(built) == ["option 'url' must be given"]
    assert Loaded(built, options={"url": "x"}).host.describe({})["options_schema"] == {
        "type": "object",
        "properties": {"url": {"type": "string"}},
        "required": ["url"],
        "additionalProperties": False,
    }


def test_what_open_refuses_is_invalid_and_what_fails_is_tried_again(build: Compiler) -> None:
    """The code tells the daemon which."""
    built = build(FULL)
    assert failure(Loaded, built, name="full", options={"path": "/refused"}) == (
        "plugin.invalid",
        "open() refused: /refused is no path for me",
    )
    assert failure(Loaded, built, name="full", options={"path": "/failed"}) == (
        "plugin.crashed",
        "open() failed: cannot open /failed",
    )


def test_other_options_in_place(build: Compiler) -> None:
    """The plugin takes them; wrong ones leave the old ones in force."""
    loaded = Loaded(build(FULL), name="full")
    loaded.host.reconfigure({"options": {"ratio": 4.0}})
    assert loaded.collect()[("full.plain",)] == 4.0
    assert loaded.host.describe({})["options"]["ratio"] == 4.0
    assert failure(loaded.host.reconfigure, {"options": {"count": 99}})[0] == "plugin.invalid"
    assert loaded.host.describe({})["options"]["ratio"] == 4.0


# Settings and commands


def test_settings_are_set_before_the_first_collection(build: Compiler) -> None:
    """To their defaults, or to what was configured; text is converted."""
    built = build(FULL)
    assert Loaded(built, name="full").collect()[("full.labelled", "user", "0")] == 7.0
    loaded = Loaded(built, name="full", settings={"level": "9", "mode": "idle"})
    assert loaded.collect()[("full.labelled", "user", "0")] == 9.0
    assert loaded.collect()[("full.labelled", "idle", "1")] == 2.5


def test_a_setting_is_read_from_the_plugin_and_changed_in_it(build: Compiler) -> None:
    """By its functions; without get(), it is what was set last."""
    loaded = Loaded(build(FULL), name="full")
    assert loaded.host.set({"setting": "level", "value": "12"}) == 12
    assert loaded.host.set({"setting": "mode", "value": "idle"}) == "idle"
    values = loaded.host.get({})
    assert (values["level"], values["mode"]) == (12, "idle")
    assert ("full.labelled", "idle", "1") in loaded.collect()


@pytest.mark.parametrize(
    ("setting", "value", "message"),
    [
        ("level", "13", "setting 'level': set refused: 13 is bad luck"),
        ("level", "101", "setting 'level': 101 is above 100"),
        ("level", "1.5", "setting 'level': Expected `int`, got `str`"),
        ("mode", "user", "setting 'mode': 'user' is none of 'system', 'idle'"),
        ("given", "x", "setting 'given': it can be read only"),
        ("lvl", "1", "no setting 'lvl' (there are: given, level, mode)"),
    ],
)
def test_a_wrong_value_changes_nothing(setting: str, value: str, message: str, build: Compiler) -> None:
    """And is the request's fault."""
    loaded = Loaded(build(FULL), name="full")
    before = loaded.host.get({})
    assert failure(loaded.host.set, {"setting": setting, "value": value}) == ("request.invalid", message)
    assert loaded.host.get({}) == before


def test_commands_have_typed_arguments_and_results(build: Compiler) -> None:
    """By place and by name, with defaults; text is converted, as the command line has nothing else."""
    loaded = Loaded(build(FULL), name="full")
    assert loaded.call("add", 1, 2) == 3
    assert loaded.call("add", "40") == 42
    assert loaded.call("add", b="5", a=-6) == -1
    assert loaded.call("add", 2**62, 2**62 - 1) == 2**63 - 1
    assert loaded.call("divide", 1, "4") == 0.25
    assert loaded.call("structure") == {"cores": [1, 2], "model": "µ"}


@pytest.mark.parametrize("value", [None, True, 3, 1.5, "text", [1, "two", None], {"a": {"b": []}}, "µ\0ß", 2**64 - 1])
def test_a_json_parameter_takes_anything(value: object, build: Compiler) -> None:
    """And gives it back as it was."""
    loaded = Loaded(build(FULL), name="full")
    argument = f'"{value}"'.replace("\0", "\\u0000") if isinstance(value, str) else value
    assert loaded.call("echo", argument) == value


@pytest.mark.parametrize(
    ("command", "args", "kwargs", "message"),
    [
        ("add", [], {}, "add(a: int, b: int = 2): missing a required argument: 'a'"),
        ("add", [1, 2, 3], {}, "add(a: int, b: int = 2): too many positional arguments"),
        ("add", [1], {"a": 2}, "add(a: int, b: int = 2): multiple values for argument 'a'"),
        ("add", [1], {"c": 2}, "add(a: int, b: int = 2): got an unexpected keyword argument 'c'"),
        ("add", ["x"], {}, "add(a: int, b: int = 2): argument 'a': Expected `int`, got `str`"),
        ("add", [2**63], {}, "add(a: int, b: int = 2): argument 'a': 9223372036854775808 does not fit into 64 bits"),
        ("divide", [1, 0], {}, "divide() refused: nobody divides by zero"),
        ("nope", [], {}, "no command 'nope' (there are: add, crash, divide, echo, fail, structure)"),
    ],
)
def test_wrong_arguments_are_the_request_s_fault(
    command: str, args: list[object], kwargs: dict[str, object], message: str, build: Compiler
) -> None:
    """With how the command is called."""
    loaded = Loaded(build(FULL), name="full")
    assert failure(loaded.call, command, *args, **kwargs) == ("request.invalid", message)


def test_a_command_that_fails_without_a_word_is_told_by_its_status(build: Compiler) -> None:
    """There is nothing else to tell."""
    assert failure(Loaded(build(FULL), name="full").call, "fail") == (
        "plugin.crashed",
        "fail() failed: it returned 5",
    )


def test_state_goes_from_one_generation_to_the_next(build: Compiler) -> None:
    """As the bytes that the old one gave; what another version left is the new one's to judge."""
    old, new = Loaded(build(FULL), name="full"), Loaded(build(FULL), name="full")
    for _ in range(3):
        old.collect()
    state = old.host.save_state({})
    assert state == struct.pack("=Q", 3)
    new.host.load_state({"state": state})
    assert new.collect()[("full.collected",)] == 4.0
    for odd in (None, True, 5, 2**70, 1.5, "text", b"short", [1], {"a": 1}):
        new.host.load_state({"state": odd})
    assert new.collect()[("full.collected",)] == 5.0


# Collections


def test_ten_thousand_samples_are_three_strings_of_bytes(build: Compiler) -> None:
    """The ids come once; after that a collection is its values, and takes no time worth speaking of."""
    loaded = Loaded(build(Path("many.c")), budget=10_000)
    rows = loaded.collect()
    assert len(rows) == 10_000
    assert rows[("many.value", "9999")] == 9999.25
    started = time.perf_counter()
    for _ in range(100):
        assert loaded.host.collect({})["ids"] is None
    assert time.perf_counter() - started < 1.0  # Measured: 1 ms. With a call a sample it would be several seconds.
    assert loaded.collect()[("many.value", "0")] == 0.25 * 102


def test_more_samples_than_a_collection_may_have_are_counted(build: Compiler) -> None:
    """The first are kept."""
    loaded = Loaded(build(Path("many.c")), samples=100, budget=10_000)
    assert list(loaded.collect()) == [("many.value", str(number)) for number in range(100)]
    assert loaded.answer["dropped"] == {"many.value": 9900}
    assert loaded.answer["cut"]


def test_more_series_than_a_metric_may_have_are_counted(build: Compiler) -> None:
    """Among them those for which there was not even an id."""
    loaded = Loaded(build(Path("many.c")), budget=100)
    assert len(loaded.collect()) == 100
    assert loaded.answer["dropped"] == {"many.value": 9900}
    assert loaded.answer["exploding"] == {"many.value": "n"}
    assert len(loaded.collect()) == 100


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("plugd_emit(buffer, plugd_series0(host, 9), 1);", "collect(): metric number 9 of 2: there is none"),
        (
            "plugd_emit(buffer, plugd_series0(host, 1), 1);",
            "collect(): metric 'probe.labelled': 0 label values for 1 labels",
        ),
        ("plugd_series1(host, 1, NULL);", "collect(): metric 'probe.labelled': label 'n' is NULL"),
        ("plugd_series(host, 1, NULL, 1);", "collect(): plugd_series(): 1 labels at no address"),
        ("plugd_series(host, 1, labels, 4000000000u);", "collect(): plugd_series(): 4000000000 labels"),
        ("plugd_emit(buffer, 5, 1);", "series 5 is none that plugd_series() has returned"),
        ("plugd_emit(buffer, plugd_series0(host, 0), NAN);", "the series {}: value nan is not a finite number"),
        (
            "for (int i = 0; i < 2; i++) plugd_emit(buffer, plugd_series1(host, 1, labels[0]), i);",
            "metric 'probe.labelled': the series {n=n} came twice in one collection",
        ),
        ("buffer->count = buffer->capacity + 1;", "collect() filled a buffer of 20000 samples with 20001"),
        ("plugd_reply_value(host, 99, 0, 0, NULL, 0);", "the reply is malformed: a value of the unknown type 99"),
        ('plugd_reply_json(host, "{");', "the reply is malformed: "),
        ('plugd_reply_string(host, "\\xff");', "the reply is malformed: "),
        ("host->reply(host, NULL);", "the reply is malformed: "),
        ("plugd_reply_value(host, PLUGD_TYPE_STRING, 0, 0, NULL, 5);", "a text of 5 bytes at no address"),
    ],
)
def test_what_a_plugin_gets_wrong_fails_its_collection(body: str, message: str, build: Compiler) -> None:
    """As a whole, as `plugin.invalid`, and says what."""
    loaded = Loaded(build(plugin_source(body)))
    code, text = failure(loaded.host.collect, {})
    assert code == "plugin.invalid"
    assert message in text


def test_a_collection_that_fails_says_why_and_the_next_is_whole(build: Compiler) -> None:
    """Whatever it had emitted is not kept."""
    body = """static int turn;
    plugd_emit(buffer, plugd_series0(host, 0), turn);
    if (turn++ == 0) return plugd_fail(host, "turn %d of %s", turn, host->name);"""
    loaded = Loaded(build(plugin_source(body)))
    assert failure(loaded.host.collect, {}) == ("plugin.crashed", "collect() failed: turn 1 of probe")
    assert loaded.collect() == {("probe.value",): 1.0}


def test_a_long_reason_is_cut(build: Compiler) -> None:
    """At the end of the buffer it is made in."""
    loaded = Loaded(build(plugin_source('return plugd_fail(host, "%5000d", 1);')))
    assert failure(loaded.host.collect, {})[1].startswith("collect() failed:   ")


def test_a_label_that_is_no_utf8_is_escaped(build: Compiler) -> None:
    """A file's name may be any bytes."""
    loaded = Loaded(build(plugin_source('plugd_emit(buffer, plugd_series1(host, 1, "a\\xff"), 1);')))
    assert loaded.collect() == {("probe.labelled", "a\\xff"): 1.0}


def test_a_plugin_may_write_the_buffer_itself(build: Compiler) -> None:
    """And need not write the series again while they are the same."""
    body = """static int turn;
    if (turn == 0) { buffer->series[0] = plugd_series0(host, 0); buffer->series[1] = plugd_series1(host, 1, "x"); }
    buffer->values[0] = turn; buffer->values[1] = 2.0 * turn++; buffer->count = 2;"""
    loaded = Loaded(build(plugin_source(body)))
    for turn in range(3):
        assert loaded.collect() == {("probe.value",): turn, ("probe.labelled", "x"): 2.0 * turn}


def test_a_plugin_may_have_threads(build: Compiler) -> None:
    """They run while plugd waits; collect() takes what they have left."""
    before = """#include <pthread.h>
    static volatile int turns;
    static void *work(void *unused) { for (;;) { turns++; usleep(100); } return unused; }
    static int start(struct plugd_host *host, const struct plugd_value *options)
    { (void)host, (void)options; pthread_t thread; return pthread_create(&thread, NULL, work, NULL); }"""
    source = plugin_source("plugd_emit(buffer, plugd_series0(host, 0), turns);", ".open = start,", before)
    loaded = Loaded(build("#define _DEFAULT_SOURCE\n" + source, "-pthread"))
    end = time.monotonic() + 20
    while loaded.collect()[("probe.value",)] < 10:
        assert time.monotonic() < end
        time.sleep(0.01)
