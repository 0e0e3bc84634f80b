"""Programs of every format, run by a real daemon."""

import pytest
from harness import Daemons, wait_until
from programs import metrics, table, write_program

OUTPUTS = {
    "nagios": (
        "echo 'DISK OK - free space: / 3326 MB | /=2643MB;5948;5958;0;5968'; exit 1",
        {
            ("nagios.status",): 1,
            ("nagios.perfdata.MB", "label=/"): 2643,
            ("nagios.threshold.MB", "bound=upper", "label=/", "level=warning"): 5948,
            ("nagios.threshold.MB", "bound=upper", "label=/", "level=critical"): 5958,
            ("nagios.minimum.MB", "label=/"): 0,
            ("nagios.maximum.MB", "label=/"): 5968,
        },
    ),
    "prometheus": (
        'printf \'# TYPE jobs_total counter\\njobs_total{queue="mail"} 3\\njobs_total{queue="web"} 4\\n\'',
        {("jobs_total", "queue=mail"): 3, ("jobs_total", "queue=web"): 4},
    ),
    "influx": ("echo 'pool,host=a used=5i,free=7.5'", {("pool.used", "host=a"): 5, ("pool.free", "host=a"): 7.5}),
    "collectd": (
        "echo 'PUTVAL here/interface-eth0/if_octets interval=10 N:10:20'",
        {
            ("collectd.interface.if_octets.rx", "host=here", "plugin_instance=eth0", "type_instance="): 10,
            ("collectd.interface.if_octets.tx", "host=here", "plugin_instance=eth0", "type_instance="): 20,
        },
    ),
    "munin": (
        'if [ "$1" = config ]; then echo "graph_title Jobs"; echo "jobs.type DERIVE"; else echo "jobs.value 12"; fi',
        {("munin.probe.jobs",): 12},
    ),
}


@pytest.mark.parametrize("format_", OUTPUTS)
def test_each_format_is_read(format_: str, daemon: Daemons) -> None:
    """What a program of each format prints is stored under the names, labels and values that it means."""
    source, values = OUTPUTS[format_]
    program = write_program(daemon.directory / "probe", source)
    running = daemon(plugins={}, config=table("probe", command=[program], format=format_))
    assert metrics(running, "probe") == values


def test_kinds_units_and_help_are_those_of_the_output(daemon: Daemons) -> None:
    """`describe` shows the metrics that were found: nobody has declared them."""
    source = "printf '# HELP up_seconds_total How long.\\n# TYPE up_seconds_total counter\\nup_seconds_total 5\\n'"
    program = write_program(daemon.directory / "probe", source)
    running = daemon(plugins={}, config=table("probe", command=[program], format="prometheus"))
    assert running.call("describe", name="probe")["metrics"] == [
        {"name": "up_seconds_total", "kind": "counter", "unit": "s", "labels": [], "help": "How long."}
    ]


def test_a_counter_has_a_rate(daemon: Daemons) -> None:
    """A counter that a program prints has a rate from its second collection on."""
    source = "read up idle </proc/uptime; printf '# TYPE up_total counter\\nup_total %s\\n' $up"
    program = write_program(daemon.directory / "probe", source)
    running = daemon(plugins={}, config=table("probe", command=[program], format="prometheus"))
    rate = wait_until(lambda: running.call("stats", patterns=["up_total"])["metrics"][0]["rate"])
    assert 0.5 < rate < 2


def test_metrics_that_come_later_are_found(daemon: Daemons) -> None:
    """A metric and a label that an output has for the first time are there with it, and those before stay."""
    data = daemon.directory / "data"
    data.write_text("a 1\n")
    running = daemon(plugins={}, config=table("probe", command=["cat", data], format="prometheus"))
    assert metrics(running, "probe") == {("a",): 1}
    data.write_text('a 1\na{x="y"} 2\nb 3\n')
    wait_until(lambda: metrics(running, "probe") == {("a",): 1, ("a", "x=y"): 2, ("b",): 3})
    names = [row["name"] for row in running.call("describe", name="probe")["metrics"]]
    assert names == ["a", "a", "b"]


def test_a_metric_that_changes_its_kind_is_another(daemon: Daemons) -> None:
    """A name whose kind changes between two outputs has the new kind from then on."""
    data = daemon.directory / "data"
    data.write_text("# TYPE a gauge\na 1\n")
    running = daemon(plugins={}, config=table("probe", command=["cat", data], format="prometheus"))
    assert running.call("stats", patterns=["a"])["metrics"][0]["kind"] == "gauge"
    data.write_text("# TYPE a counter\na 2\n")
    wait_until(lambda: [row["kind"] for row in running.call("stats", patterns=["a"])["metrics"]] == ["counter"])


def test_of_two_values_of_one_series_the_latest_counts(daemon: Daemons) -> None:
    """By their own times where they have some, and otherwise by their order."""
    data = daemon.directory / "data"
    data.write_text("m a=1 2000000000\nm a=2 1000000000\nm b=1\nm b=2\n")
    running = daemon(plugins={}, config=table("probe", command=["cat", data], format="influx"))
    assert metrics(running, "probe") == {("m.a",): 1, ("m.b",): 2}


def test_series_beyond_the_budget_are_dropped_and_counted(daemon: Daemons) -> None:
    """The limits of a plugin hold for what a program prints, and the label that breaks them is named."""
    source = 'for i in 1 2 3 4 5; do echo "a{n=\\"$i\\"} $i"; done'
    program = write_program(daemon.directory / "probe", source)
    config = table("probe", command=[program], format="prometheus", limits={"series": 3})
    running = daemon(plugins={}, config=config)
    assert len(metrics(running, "probe")) == 3
    assert running.call("stats")["plugins"]["probe"]["dropped"] >= 2
    assert "label n of a" in running.call("why", name="probe")["summary"]


def test_metrics_beyond_two_thousand_are_left_out_and_told(daemon: Daemons) -> None:
    """A program that makes up names costs itself, and no more."""
    source = 'i=0; while [ $i -lt 2100 ]; do echo "m$i $i"; i=$((i+1)); done'
    program = write_program(daemon.directory / "probe", source)
    running = daemon(plugins={}, config=table("probe", command=[program], format="prometheus", interval=60))
    assert len(metrics(running, "probe")) == 2000
    assert "at most 2000" in running.call("why", name="probe")["malformed"]


def test_a_wide_output_is_taken_whole(daemon: Daemons) -> None:
    """Ten thousand series with long labels are declared in as many frames as it takes."""
    text = "".join(f'm{{a="{"x" * 200}",n="{number}"}} {number}\n' for number in range(10_000))
    (daemon.directory / "data").write_text(text)
    config = table("probe", command=["cat", daemon.directory / "data"], format="prometheus", interval=60)
    running = daemon(plugins={}, config=config)
    assert running.call("stats")["plugins"]["probe"]["series"] == 10_000


def test_the_text_of_a_check_is_told_when_its_status_changes(daemon: Daemons) -> None:
    """`why` has the latest text of a Nagios plugin; its log has one for each change of the status."""
    status = daemon.directory / "status"
    status.write_text("0")
    program = write_program(daemon.directory / "probe", f'read n <{status}; echo "CHECK is $n"; exit $n')
    running = daemon(plugins={}, config=table("probe", command=[program], format="nagios"))
    assert running.call("why", name="probe")["notice"] == "CHECK is 0"
    status.write_text("2")
    wait_until(lambda: running.call("why", name="probe")["notice"] == "CHECK is 2")
    wait_until(lambda: len(running.records("plugin_output")) == 2)
    assert [row["line"] for row in running.records("plugin_output")] == ["status 0: CHECK is 0", "status 2: CHECK is 2"]
