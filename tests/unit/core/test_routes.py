"""The file of routes: what it says is done, and what is wrong with it is said with its line."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from eventsplatform.errors import PoisonMessageError
from eventsplatform.messaging.model import INBOUND_TOPIC, TOPICS
from eventsplatform.messaging.routes import MOST_HOPS, Routes, values_of
from eventsplatform.messaging.routes_file import RoutesError, platform_routes, read_routes
from tests.support.lambda_events import message

GOOD = """\
platform: evp
streams:
  PLATFORM: {subjects: [events.>, users.>], max_age_hours: 48, duplicate_window_minutes: 60, max_message_kib: 900}
  INBOUND: {subjects: [inbound.>], max_age_hours: 48, duplicate_window_minutes: 60, max_message_kib: 500}
kafka_to_nats:
  - route: drafts
    topics: [evp.events.v1]
    type: events.{verb}
    stream: PLATFORM
    subject: "events.{verb}.{message.subject}"
    headers: {Verb: "{verb}", Tenant: "{extension.tenant}"}
nats_to_kafka:
  - route: commands
    subject: inbound.{service}.{action}
    topic: evp.inbound.v1
    type: inbound.{service}.{action}
    key: "{message.subject|message.id}"
    headers: {Service: "{service}", Partner: "{header.Partner}"}
"""


def routes(tmp_path: Path, text: str = GOOD) -> Routes:
    path = tmp_path / "routes.yaml"
    path.write_text(text)
    return read_routes(path)


def problems(tmp_path: Path, text: str) -> list[str]:
    with pytest.raises(RoutesError) as caught:
        routes(tmp_path, text)
    return list(caught.value.problems)


def test_the_platform_s_own_routes_are_sound_and_leave_no_topic_out() -> None:
    shipped = platform_routes()

    assert {topic for route in shipped.to_nats for topic in route.topics} == set(TOPICS.values())
    assert {route.topic for route in shipped.from_nats} == {INBOUND_TOPIC}
    assert [(shard.name, shard.filters) for shard in shipped.shards] == [("inbound", ["inbound.>"])]


@pytest.mark.parametrize(
    ("subject", "type", "key"),
    [
        ("inbound.events.update.42", "inbound.events.update", "42"),
        ("inbound.events.create", "inbound.events.create", "s"),
        ("inbound.a.b.c.d", "inbound.a.b.c.d", "s"),
        ("inbound.events%2Ecreate", "inbound.events%252Ecreate", "s"),
        ("inbound.events.update.a%20b", "inbound.events.update", "a b"),
    ],
)
def test_what_comes_in_is_keyed_by_its_entity_and_typed_by_its_subject(subject: str, type: str, key: str) -> None:
    route, captures = platform_routes().shards[0].route(subject)
    lookup = values_of(message(subject="s", partitionkey=""), captures)

    assert (route.topic, route.type.subject(lookup), route.key.fill(lookup)) == (INBOUND_TOPIC, type, key)


def test_a_message_takes_the_first_route_that_matches_and_its_captures_along(tmp_path: Path) -> None:
    told = message(7, "events.published", extensions={"tenant": "acme"})

    route, captures = routes(tmp_path).route("evp.events.v1", told.type)

    lookup = values_of(told, captures)
    assert route.name == "drafts"
    assert route.subject.subject(lookup) == "events.published.7"
    assert {name: template.fill(lookup) for name, template in route.headers.items()} == {
        "Verb": "published",
        "Tenant": "acme",
    }


def test_headers_that_came_with_a_message_can_be_named(tmp_path: Path) -> None:
    (shard,) = routes(tmp_path).shards
    route, captures = shard.route("inbound.events.create")
    lookup = values_of(message(), captures, {"Partner": "acme"})

    assert {name: template.fill(lookup) for name, template in route.headers.items()} == {
        "Service": "events",
        "Partner": "acme",
    }


@pytest.mark.parametrize(("topic", "type"), [("evp.users.v1", "events.created"), ("evp.events.v1", "events.a.b")])
def test_what_no_route_takes_is_poison(tmp_path: Path, topic: str, type: str) -> None:
    with pytest.raises(PoisonMessageError, match="no route takes"):
        routes(tmp_path).route(topic, type)
    with pytest.raises(PoisonMessageError, match="no route takes"):
        routes(tmp_path).shards[0].route("inbound.a.b.c")


def test_what_crossed_is_marked_and_known_again(tmp_path: Path) -> None:
    ours = routes(tmp_path)

    once = replace(message(), **ours.mark(message(via="partner", hops=1)))

    assert (once.via, once.hops) == ("partner,evp", 2)
    assert ours.is_loop(once)
    assert not ours.is_loop(message(via="partner", hops=MOST_HOPS))
    assert ours.is_loop(message(via="partner", hops=MOST_HOPS + 1))
    assert not ours.is_loop(replace(once, via="evp2,xevp"))


@pytest.mark.parametrize(
    ("was", "now", "problem"),
    [
        ("platform: evp", "platform: Evp", "routes.yaml:1: platform: String should match pattern"),
        ("platform: evp\n", "", "routes.yaml:1: platform: Field required"),
        ("topics: [evp.events.v1]", "topics: [evp.event.v1]", "routes.yaml:7: 0: no topic 'evp.event.v1'; there are"),
        ("topics: [evp.events.v1]", "topics: []", "routes.yaml:7: topics: List should have at least 1 item"),
        ("topic: evp.inbound.v1", "topic: evp.in.v1", "routes.yaml:15: topic: no topic 'evp.in.v1'"),
        ("stream: PLATFORM", "stream: PLATFORMS", "routes.yaml:9: stream: no stream 'PLATFORMS'; there are PLATFORM"),
        ("type: events.{verb}", "type: events.{ver", "routes.yaml:8: type: '{ver' is no token"),
        ('"events.{verb}.{', '"events.{verb.{', "routes.yaml:10: subject: the braces of"),
        ('"events.{verb}.{', '"event.{verb}.{', "routes.yaml:10: subject: PLATFORM has no subject that could come"),
        ("{message.subject}", "{message.subjct}", "routes.yaml:10: subject: nothing is called 'message.subjct'"),
        ('Verb: "{verb}"', 'Verb: "{header.X}"', "routes.yaml:11: Verb: nothing is called 'header.X'"),
        ("{Verb:", '{"Ve rb":', "routes.yaml:11: [key]: String should match pattern"),
        ("route: commands", "route: drafts", "routes.yaml:13: route: 'drafts' is the name of another route"),
        ("subject: inbound.{", "subject: outside.{", "routes.yaml:14: subject: no stream has all of these subjects"),
        ("type: inbound.{service}", "type: inbound.{sevice}", "routes.yaml:16: type: nothing is called 'sevice'"),
        ('key: "{message.subject|', 'keys: "{message.subject|', "routes.yaml:13: key: Field required"),
        ("inbound.>]", "inbound.>, users.*]", "routes.yaml:4: 1: 'users.*' overlaps with 'users.>' of PLATFORM"),
        ("max_message_kib: 900", "max_message_kib: 2000", "routes.yaml:3: max_message_kib: Input should be less"),
        (
            "max_age_hours: 48, duplicate_window_minutes: 60, max_message_kib: 900",
            "x: 1",
            "routes.yaml:3: max_age_hours",
        ),
        ("    stream: PLATFORM\n", "    stream: PLATFORM\n    route: again\n", "routes.yaml:10: route: given twice"),
        ("kafka_to_nats:", "kafka_to_nats: [", "routes.yaml:6: expected the node content"),
    ],
)
def test_what_is_wrong_is_said_with_its_line(tmp_path: Path, was: str, now: str, problem: str) -> None:
    assert was in GOOD

    found = problems(tmp_path, GOOD.replace(was, now, 1))

    assert any(each.startswith(problem) for each in found), found


def test_all_that_is_wrong_is_said_at_once(tmp_path: Path) -> None:
    text = GOOD.replace("topic: evp.inbound.v1", "topic: evp.in.v1").replace("stream: PLATFORM", "stream: ELSEWHERE")

    assert len(problems(tmp_path, text)) == 2


@pytest.mark.parametrize("text", ["", "[]", "just text"])
def test_what_is_no_file_of_routes_says_so(tmp_path: Path, text: str) -> None:
    (problem,) = problems(tmp_path, text)

    assert problem.startswith("routes.yaml:1: ")


def inbound(subject: str, **more: str) -> str:
    route = {"subject": subject, "topic": "evp.inbound.v1", "type": "inbound", "key": '"{message.id}"', **more}
    return "".join(f"    {name}: {value}\n" for name, value in {**route}.items()).replace("    ", "  - ", 1)


def test_a_route_that_another_one_leaves_nothing_for_is_refused(tmp_path: Path) -> None:
    text = GOOD + inbound("inbound.events.*", route="late")
    again = GOOD.replace(
        "nats_to_kafka:", GOOD[GOOD.index("  - route: drafts") : GOOD.index("nats_to")] + "nats_to_kafka:"
    )

    assert problems(tmp_path, text)[0].endswith("never taken: 'commands' in line 13 takes all of it")
    assert any("never taken: 'drafts' in line 6" in each for each in problems(tmp_path, again))


def test_filters_that_nats_would_not_take_together_are_refused(tmp_path: Path) -> None:
    text = GOOD + inbound("inbound.*.*", route="wide").replace("inbound.*.*", "inbound.events.>")

    assert "in part: NATS takes no such filters" in problems(tmp_path, text)[0]


def test_shards_that_would_both_read_a_message_are_refused(tmp_path: Path) -> None:
    text = GOOD + inbound("inbound.>", route="all", shard="second")

    assert "which another shard reads: messages would be sent twice" in problems(tmp_path, text)[0]


def test_shards_that_read_different_subjects_have_a_consumer_each(tmp_path: Path) -> None:
    text = GOOD + inbound("inbound.bulk.{rest>}", route="bulk", shard="bulk").replace("inbound.bulk", "inbound.bulk.x")

    assert [(shard.name, shard.filters) for shard in routes(tmp_path, text).shards] == [
        ("inbound", ["inbound.*.*"]),
        ("bulk", ["inbound.bulk.x.>"]),
    ]


def test_what_goes_out_must_not_be_read_back(tmp_path: Path) -> None:
    back = inbound("events.published.*", route="back", shard="back")

    (problem,) = problems(tmp_path, GOOD + back)

    assert problem.startswith("routes.yaml:19: subject: reads what 'drafts' of line 6 writes")
    assert len(routes(tmp_path, GOOD + back + "    may_loop: true\n").from_nats) == 2
