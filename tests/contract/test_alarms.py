"""Alarms watch metrics that are written, and operators can read what each is for."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest

from eventsplatform.observability import NAMESPACE
from tests.support.application import ROOT
from tests.support.template_rules.templates import ROOT as TEMPLATE
from tests.support.template_rules.templates import Sources, Templates

CORE = ROOT / "layers" / "core" / "eventsplatform"
STACK = "stacks/observability.yaml"
DOCUMENT = ROOT / "docs" / "operations" / "alarms.md"

EMITTING = {"emit_metric", "emit_seconds", "_Metric"}
# A counter's name when it is handed on before it is written.
COUNTER = re.compile(r"[a-z]+(_[a-z]+)*_total")
NAME = re.compile(r"`([a-z_]+)`")

Alarms = Mapping[str, Mapping[str, Any]]


@pytest.fixture(scope="module")
def templates() -> Templates:
    return Templates.load(ROOT)


@pytest.fixture(scope="module")
def alarms(templates: Templates) -> Alarms:
    return {alarm.logical_id: alarm.properties for alarm in templates.written("AWS::CloudWatch::Alarm")}


def emitted_by(source: str) -> Iterator[str]:
    """The names of the metrics that a module writes."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and ast.unparse(node.func) in EMITTING and node.args:
            if isinstance(name := node.args[0], ast.Constant):
                yield str(name.value)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and COUNTER.fullmatch(node.value):
            yield node.value


@pytest.fixture(scope="module")
def emitted() -> set[str]:
    sources = [*CORE.rglob("*.py"), *(ROOT / "functions").rglob("*.py")]
    return {name for path in sources for name in emitted_by(path.read_text())}


def watched(alarm: Mapping[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Namespace, name and dimensions of each metric, whether an alarm has one or works with several."""
    for each in (alarm, *(query.get("MetricStat", {}).get("Metric", {}) for query in alarm.get("Metrics", []))):
        if "MetricName" in each:
            dimensions = {dimension["Name"]: dimension["Value"] for dimension in each["Dimensions"]}
            yield each["Namespace"], each["MetricName"], dimensions
    for query in alarm.get("Metrics", []):
        if found := re.search(r'SELECT \w+\((\w+)\) FROM SCHEMA\("([\w/]+)"', str(query.get("Expression"))):
            yield found[2], found[1], {}


def own_metrics(alarms: Alarms) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for name, alarm in alarms.items():
        yield from ((name, metric, dims) for space, metric, dims in watched(alarm) if space == NAMESPACE)


def documented(section: int, column: int) -> list[str]:
    """The cells of a column of the document's tables: of alarms, and of other metrics."""
    tables = re.findall(r"(?:^\|.*\|\n)+", DOCUMENT.read_text(), re.MULTILINE)
    rows = [line.strip("|").split("|") for line in tables[section].splitlines()[2:]]
    return [row[column].strip() for row in rows]


# Alarms and metrics ------------------------------------------------------------------------------------------


def test_all_alarms_are_in_one_stack(templates: Templates) -> None:
    assert {alarm.template for alarm in templates.written("AWS::CloudWatch::Alarm")} == {STACK}


def test_every_metric_that_an_alarm_watches_is_written(alarms: Alarms, emitted: set[str]) -> None:
    assert [(name, metric) for name, metric, _ in own_metrics(alarms) if metric not in emitted] == []


def test_it_is_written_with_the_dimensions_that_the_alarm_names(alarms: Alarms, templates: Templates) -> None:
    """All are written with the service alone; who uses another dimension compares it with what is written."""
    variables = templates.sources[TEMPLATE]["Globals"]["Function"]["Environment"]["Variables"]
    service = variables["POWERTOOLS_SERVICE_NAME"]
    compared = {"attendee_mails_total": {"outcome"}, "webhook_deliveries_total": {"status"}}

    for name, metric, dimensions in own_metrics(alarms):
        assert dimensions.pop("service") == service, name
        assert dimensions.keys() == compared.get(metric, set()), name


def test_an_alarm_says_what_silence_means_and_calls_whoever_is_to_be_called(alarms: Alarms) -> None:
    call = {"Fn::If": ["HasTopic", [{"Ref": "AlarmTopicArn"}], {"Ref": "AWS::NoValue"}]}

    for name, alarm in alarms.items():
        assert alarm["AlarmActions"] == alarm["OKActions"] == call, name
        assert alarm["TreatMissingData"] in ("breaching", "notBreaching"), name
        assert list(watched(alarm)), name


@pytest.mark.parametrize("missing", ["outbox_age_seconds", "partition_months_ahead"])
def test_what_is_told_by_a_schedule_sounds_when_nothing_is_told(alarms: Alarms, missing: str) -> None:
    silent = {metric: alarms[name]["TreatMissingData"] for name, metric, _ in own_metrics(alarms)}

    assert silent[missing] == "breaching"


# The document ------------------------------------------------------------------------------------------------


def test_operators_can_read_of_every_alarm_what_it_watches_and_what_to_do(alarms: Alarms) -> None:
    rows = dict(zip(documented(0, 0), zip(documented(0, 1), documented(0, 3), strict=True), strict=True))

    assert rows.keys() == {f"`{name}`" for name in alarms}
    for name, alarm in alarms.items():
        what, advice = rows[f"`{name}`"]
        assert what.split("`")[1] in {metric for _, metric, _ in watched(alarm)}, name
        assert advice, name


def test_every_metric_is_in_the_document_once_watched_or_not(alarms: Alarms, emitted: set[str]) -> None:
    by_alarms = {metric for _, metric, _ in own_metrics(alarms)}
    others = {name for cell in documented(1, 0) for name in NAME.findall(cell)}

    assert by_alarms & others == set()
    assert by_alarms | others == emitted


# The controls ------------------------------------------------------------------------------------------------


def rename(metric: str) -> Callable[[Sources], None]:
    def change(sources: Sources) -> None:
        sources[STACK]["Resources"]["OutboxIsOld"]["Properties"]["MetricName"] = metric

    return change


def test_an_alarm_that_watches_nothing_would_be_noticed(templates: Templates, emitted: set[str]) -> None:
    changed = templates.changed(rename("outbox_age_minutes"))
    alarms = {alarm.logical_id: alarm.properties for alarm in changed.written("AWS::CloudWatch::Alarm")}

    with pytest.raises(AssertionError, match="outbox_age_minutes"):
        test_every_metric_that_an_alarm_watches_is_written(alarms, emitted)
    with pytest.raises(AssertionError):
        test_operators_can_read_of_every_alarm_what_it_watches_and_what_to_do(alarms)


def test_a_metric_that_nobody_has_written_about_would_be_noticed(alarms: Alarms, emitted: set[str]) -> None:
    new = set(emitted_by('def f(): emit_metric("surprises_total", 1, kind="nice")'))
    assert new == {"surprises_total"}

    with pytest.raises(AssertionError, match="surprises_total"):
        test_every_metric_is_in_the_document_once_watched_or_not(alarms, emitted | new)
