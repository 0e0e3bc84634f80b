"""What a plugin's author sees: metrics, samples, settings, commands."""

import pytest

from plugd.metric import Counter, Gauge, Metric, MetricError, Sample
from plugd.plugin import Plugin, command, setting


def test_a_metric_makes_samples_with_its_labels_in_order() -> None:
    """The labels of a sample stand in the declared order, however they were given."""
    metric = Gauge("system.cpu.time", labels=("mode", "cpu"))
    assert metric(1.5, cpu=0, mode="user") == Sample(metric, 1.5, ("user", 0))


def test_a_mapping_of_labels_gives_them_python_words() -> None:
    """The author writes the word; the wire has the label's own name."""
    metric = Counter("system.cpu.time", labels={"mode": "cpu.mode", "cpu": "cpu.logical_number"})
    assert metric.parameters == ("mode", "cpu")
    assert metric.labels == ("cpu.mode", "cpu.logical_number")
    assert metric(1, cpu=3, mode="idle").labels == ("idle", 3)


def test_a_single_label_may_be_given_as_text() -> None:
    """``labels="window"`` is one label, and not six of one letter."""
    assert Gauge("load", labels="window").labels == ("window",)


def test_a_label_may_be_called_value_or_self() -> None:
    """The value is positional only, so that no label's name is taken."""
    metric = Gauge("g", labels=("value", "self"))
    assert metric(1, value="a", self="b").labels == ("a", "b")


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ({}, "metric 'g': label 'a', 'b' missing (declared: a, b)"),
        ({"a": 1}, "metric 'g': label 'b' missing (declared: a, b)"),
        ({"a": 1, "b": 2, "c": 3}, "metric 'g': no label 'c' (declared: a, b)"),
        ({"a": 1, "c": 3}, "metric 'g': no label 'c'; label 'b' missing (declared: a, b)"),
    ],
)
def test_wrong_labels_are_all_named(labels: dict[str, int], message: str) -> None:
    """The error says what is missing, what there is not, and what was declared."""
    with pytest.raises(MetricError) as caught:
        Gauge("g", labels=("a", "b"))(1, **labels)
    assert str(caught.value) == message


def test_a_metric_without_labels_takes_none() -> None:
    """A label where none is declared is an error as well."""
    with pytest.raises(MetricError, match=r"no label 'x' \(declared: none\)"):
        Gauge("g")(1, x=1)


def test_the_kinds_are_gauge_and_counter() -> None:
    """The kind is the class's; the base class has none."""
    assert (Gauge("g").kind, Counter("c").kind, Metric("m").kind) == ("gauge", "counter", "")
    assert repr(Counter("c", unit="By")) == "Counter('c', unit='By')"


def test_metrics_are_compared_by_identity() -> None:
    """Two declarations that look alike are two metrics."""
    assert Gauge("g") != Gauge("g")


def test_a_setting_is_its_default_until_it_is_set() -> None:
    """The value belongs to the instance; the class has the declaration."""

    class Probe(Plugin):
        level = setting(7)

    one, other = Probe(), Probe()
    one.level = 3
    assert (one.level, other.level) == (3, 7)
    assert Probe.level.name == "level"
    assert Probe.level.default == 7


def test_a_command_stays_a_method() -> None:
    """The mark changes nothing of what it marks."""

    class Probe(Plugin):
        @command
        def double(self, number: int) -> int:
            return 2 * number

    assert Probe().double(4) == 8
    assert Probe.double.__plugd_command__


def test_a_plugin_that_does_not_collect_says_so() -> None:
    """The base class collects nothing, and keeps no state."""
    with pytest.raises(NotImplementedError):
        Plugin().collect()
    assert Plugin().save_state() is None
