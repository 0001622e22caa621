"""Commands of partner systems: who may send them, what they do, that they do it once, and how they are answered."""

from __future__ import annotations

import dataclasses
import io
import json
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any
from uuid import uuid4

import jwt
import pytest

from eventsplatform.catalog.model import Event
from eventsplatform.clock import utc_now
from eventsplatform.errors import DependencyUnavailableError, NotFoundError
from eventsplatform.idempotency import KEPT_FOR, handling_request
from eventsplatform.identity.partners import PartnerCommand, Withdrawal
from eventsplatform.messaging import schemas
from eventsplatform.messaging.commands import named_request
from eventsplatform.messaging.envelope import Message
from eventsplatform.observability import logger
from local.engines import Endpoints
from local.triggers import ensure_topics
from tests.support.callers import caller
from tests.support.database import KEYS, Services, administrator, event_in, services
from tests.support.kafka import everything_in
from tests.support.partners import Bus, CommandFunctions, Partner, listening, partner, waiting_for

NOBODY_LISTENS = "nats://127.0.0.1:9"


@pytest.fixture
def running(migrated_database: str) -> Iterator[Services]:
    with services(migrated_database) as built:
        yield built


@pytest.fixture
def functions(endpoints: Endpoints, running: Services, monkeypatch: pytest.MonkeyPatch) -> CommandFunctions:
    return CommandFunctions(endpoints, running, monkeypatch)


@pytest.fixture
def bus(endpoints: Endpoints) -> Iterator[Bus]:
    with listening(endpoints.nats) as opened:
        yield opened


@pytest.fixture
def acme(running: Services) -> Partner:
    return partner(running)


@pytest.fixture
def logged() -> Iterator[io.StringIO]:
    written = io.StringIO()
    before = logger.registered_handler.setStream(written)  # type: ignore[attr-defined]
    yield written
    logger.registered_handler.setStream(before)  # type: ignore[attr-defined]


def new_event(title: str = "") -> dict[str, Any]:
    return event_in(title=title or f"From a partner {uuid4()}").model_dump(mode="json")


def titled(url: str, title: str) -> int:
    with administrator(url) as connection:
        row = connection.execute("SELECT count(*) AS events FROM catalog.events WHERE title = %s", (title,)).fetchone()
    assert row is not None
    return int(row["events"])


def the_answer(bus: Bus, to: Partner) -> Message:
    (answer,) = bus.answers(to.inbox)
    schemas.check(answer)
    return answer


def result(answer: Message) -> dict[str, Any]:
    assert answer.type == "commands.succeeded", answer.data
    told: dict[str, Any] = answer.data["result"]
    return told


def problem(answer: Message) -> dict[str, Any]:
    assert answer.type == "commands.failed", answer.data
    told: dict[str, Any] = answer.data["problem"]
    return told


# What they do ------------------------------------------------------------------------------------


def test_an_event_is_created_and_answered_as_over_the_api(
    functions: CommandFunctions, running: Services, bus: Bus, acme: Partner
) -> None:
    command = acme.command("events.create", event=new_event())

    assert functions.deliver(command) == 1

    answer = the_answer(bus, acme)
    event = running.catalog.get(result(answer)["id"], caller(acme.user_id))
    assert result(answer) == json.loads(Event.model_validate(event.model_dump()).model_dump_json())
    assert "team" not in result(answer), "no answer to the public has it"
    assert (event.status, event.organizer.id) == ("draft", acme.user_id)
    assert answer.data["command"] == {"source": command.source, "id": command.id, "type": command.type}
    assert answer.source == "/events-platform/commands"


def test_an_event_is_changed_and_called_off(
    functions: CommandFunctions, running: Services, bus: Bus, acme: Partner
) -> None:
    event_id = running.published_event(acme.user_id)
    update = acme.command("events.update", event_id=event_id, changes={"title": "Another title", "tags": None})
    stale = acme.command("events.update", event_id=event_id, changes={"title": "Too late"}, if_match='"1"')
    cancel = acme.command("events.cancel", event_id=event_id, reason="The hall has burnt down.")

    assert functions.deliver(update, stale, cancel) == 3

    updated, refused, cancelled = bus.answers(acme.inbox, 3)
    assert (result(updated)["title"], result(updated)["tags"]) == ("Another title", [])
    assert problem(refused)["status"] == 412
    assert (result(cancelled)["status"], result(cancelled)["cancellation_reason"]) == (
        "cancelled",
        "The hall has burnt down.",
    )


def test_someone_is_registered(functions: CommandFunctions, running: Services, bus: Bus, acme: Partner) -> None:
    event_id = running.published_event(11)

    assert functions.deliver(acme.command("registrations.create", event_id=event_id), to="registrations") == 1

    registration = result(the_answer(bus, acme))
    assert (registration["event_id"], registration["user_id"], registration["status"]) == (
        event_id,
        acme.user_id,
        "active",
    )


def test_what_is_done_is_told_as_the_persons_own_doing(
    functions: CommandFunctions, migrated_database: str, bus: Bus, acme: Partner
) -> None:
    functions.deliver(acme.command("events.create", event=new_event()))

    event_id = result(the_answer(bus, acme))["id"]
    with administrator(migrated_database) as connection:
        rows = connection.execute(
            "SELECT type, actor_id FROM messaging.outbox WHERE aggregate_type = 'event' AND aggregate_id = %s",
            (event_id,),
        ).fetchall()
    assert rows == [{"type": "events.created", "actor_id": acme.user_id}]


def test_each_function_leaves_the_others_commands_alone(
    functions: CommandFunctions, migrated_database: str, bus: Bus, acme: Partner
) -> None:
    body = new_event()

    assert functions.deliver(acme.command("events.create", event=body), to="registrations") == 1
    assert functions.deliver(acme.command("registrations.create", event_id=1), to="events") == 1
    assert functions.deliver(acme.message("other.create", {})) == 1

    assert bus.seen() == []
    assert titled(migrated_database, body["title"]) == 0


def test_a_command_that_nobody_waits_for_is_carried_out_without_an_answer(
    functions: CommandFunctions, migrated_database: str, bus: Bus, acme: Partner
) -> None:
    body = new_event()

    assert functions.deliver(waiting_for(acme.command("events.create", event=body), None)) == 1

    assert titled(migrated_database, body["title"]) == 1
    assert bus.seen() == []


# Once --------------------------------------------------------------------------------------------


def test_a_command_that_is_delivered_again_has_one_effect_and_the_same_answer(
    functions: CommandFunctions, migrated_database: str, bus: Bus, acme: Partner
) -> None:
    body = new_event()
    command = acme.command("events.create", event=body)

    assert functions.deliver(command) == 1
    assert functions.deliver(command, command) == 2

    answers = bus.answers(acme.inbox, 3)
    assert [answer.data for answer in answers] == [answers[0].data] * 3
    assert {answer.id for answer in answers} == {f"/partners/acme#{command.id}"}
    assert titled(migrated_database, body["title"]) == 1


def test_without_its_name_it_has_as_many_effects(running: Services, migrated_database: str, acme: Partner) -> None:
    """The control: the use case alone does it again."""
    body = new_event()
    for _ in range(2):
        running.catalog.create(event_in(**body), caller(acme.user_id))

    assert titled(migrated_database, body["title"]) == 2


def test_a_registration_that_is_delivered_again_is_no_second_one(
    functions: CommandFunctions, running: Services, bus: Bus, acme: Partner
) -> None:
    """By itself, registering again is refused: the repeat must be answered with the place that was taken."""
    command = acme.command("registrations.create", event_id=running.published_event(11))

    assert functions.deliver(command, command, to="registrations") == 2

    first, again = bus.answers(acme.inbox, 2)
    assert result(first) == result(again)


def test_another_delivery_at_the_same_time_is_found_when_it_has_been_carried_out(
    functions: CommandFunctions, running: Services, migrated_database: str, bus: Bus, acme: Partner
) -> None:
    """Between the look at what is known and the effect: the record itself decides."""
    body = new_event()
    command = acme.command("events.create", event=body)
    request = named_request(command, partner="acme", user_id=acme.user_id)

    def in_between(*_: Any) -> Any:
        with handling_request(request):
            running.catalog.create(event_in(**body), caller(acme.user_id))
        functions.sessions.check = check  # type: ignore[method-assign]
        return check(*_)

    check = functions.sessions.check
    functions.sessions.check = in_between  # type: ignore[method-assign]
    assert functions.deliver(command) == 1

    assert result(the_answer(bus, acme))["title"] == body["title"]
    assert titled(migrated_database, body["title"]) == 1


def test_while_nats_is_down_the_partition_waits_and_the_answer_comes_later_without_a_second_effect(
    functions: CommandFunctions, migrated_database: str, bus: Bus, acme: Partner
) -> None:
    body = new_event()
    command = acme.command("events.create", event=body)

    for _ in range(2):
        assert functions.deliver(command, nats_url=NOBODY_LISTENS) == 0
    assert titled(migrated_database, body["title"]) == 1

    assert functions.deliver(command) == 1
    assert result(the_answer(bus, acme))["title"] == body["title"]
    assert titled(migrated_database, body["title"]) == 1


def test_what_may_pass_holds_its_partition_and_what_is_refused_does_not(
    functions: CommandFunctions, migrated_database: str, bus: Bus, acme: Partner
) -> None:
    refused, sound = acme.command("events.create", event={}), acme.command("events.create", event=new_event())

    functions.sessions.down = DependencyUnavailableError("identity service")
    assert functions.deliver(refused, sound) == 0
    assert bus.seen() == []

    functions.sessions.down = None
    assert functions.deliver(refused, sound) == 2
    assert [answer.type for answer in bus.answers(acme.inbox, 2)] == ["commands.failed", "commands.succeeded"]


def test_a_row_that_someone_holds_is_waited_for(
    functions: CommandFunctions, running: Services, migrated_database: str, bus: Bus, acme: Partner
) -> None:
    event_id = running.published_event(acme.user_id)
    command = acme.command("events.cancel", event_id=event_id)
    with administrator(migrated_database) as connection, connection.transaction():
        connection.execute("SELECT FROM catalog.events WHERE id = %s FOR UPDATE", (event_id,))
        assert functions.deliver(command) == 0

    assert functions.deliver(command) == 1
    assert result(the_answer(bus, acme))["status"] == "cancelled"


def test_a_refusal_is_repeated_even_when_the_reason_has_gone(
    functions: CommandFunctions, running: Services, bus: Bus, acme: Partner
) -> None:
    event_id = running.published_event(11)
    running.registrations.register(event_id, caller(acme.user_id))
    command = acme.command("registrations.create", event_id=event_id)
    functions.deliver(command, to="registrations")
    running.registrations.cancel(event_id, caller(acme.user_id))

    functions.deliver(command, to="registrations")

    first, again = bus.answers(acme.inbox, 2)
    assert problem(first)["status"] == 409
    assert first.data == again.data


def test_a_command_is_answered_as_before_when_its_token_is_over_by_then(
    functions: CommandFunctions, running: Services, bus: Bus, acme: Partner
) -> None:
    command = acme.command("events.create", event=new_event())
    functions.deliver(command)
    running.partners.withdraw(Withdrawal(partner="acme", session_id=acme.granted.session_id))

    functions.deliver(command, acme.command("events.create", event=new_event()))

    first, again, another = bus.answers(acme.inbox, 3)
    assert first.data == again.data
    assert problem(another)["status"] == 401


def test_a_new_token_does_not_make_another_command_of_it(
    functions: CommandFunctions, running: Services, migrated_database: str, bus: Bus, acme: Partner
) -> None:
    body = new_event()
    command = acme.command("events.create", event=body)
    renewed = running.partners.grant(grant_of(acme))
    functions.deliver(command)

    functions.deliver(dataclasses.replace(command, data={"token": renewed.token, "event": body}))

    first, again = bus.answers(acme.inbox, 2)
    assert first.data == again.data
    assert titled(migrated_database, body["title"]) == 1


def test_an_id_is_for_one_command(functions: CommandFunctions, migrated_database: str, bus: Bus, acme: Partner) -> None:
    command = acme.command("events.create", event=new_event())
    other = dataclasses.replace(command, data={**command.data, "event": new_event("Another one")})

    functions.deliver(command, other)

    _, refused = bus.answers(acme.inbox, 2)
    assert problem(refused)["errors"][0]["pointer"] == "/id"
    assert titled(migrated_database, "Another one") == 0


def test_partners_choose_their_ids_for_themselves(
    functions: CommandFunctions, running: Services, migrated_database: str, bus: Bus, acme: Partner
) -> None:
    """Whoever guesses another's source and id takes nothing away from it, and learns nothing."""
    rival = partner(running, name="rival")
    body = new_event()
    command = acme.command("events.create", event=body)
    guessed = dataclasses.replace(command, data={"token": rival.granted.token, "event": body})

    functions.deliver(guessed, command)

    theirs, ours = bus.answers(acme.inbox, 2)
    assert (result(theirs)["organizer"]["id"], result(ours)["organizer"]["id"]) == (rival.user_id, acme.user_id)
    assert titled(migrated_database, body["title"]) == 2


def test_a_record_is_kept_for_longer_than_kafka_keeps_the_command(
    functions: CommandFunctions, migrated_database: str, bus: Bus, acme: Partner
) -> None:
    """A day, which is what requests over HTTP are kept for, would not do."""
    body = new_event()
    command = acme.command("events.create", event=body)
    functions.deliver(command)
    with administrator(migrated_database) as connection:
        connection.execute("UPDATE catalog.inbox SET created_at = now() - interval '7 days 1 hour'")

    functions.deliver(acme.command("events.create", event=new_event()), command)

    assert titled(migrated_database, body["title"]) == 1
    assert KEPT_FOR["idempotency_keys"] < timedelta(days=7) < KEPT_FOR["inbox"]


# Who may -----------------------------------------------------------------------------------------


def grant_of(known: Partner, *commands: PartnerCommand) -> Any:
    from eventsplatform.identity.partners import Grant

    return Grant(partner="acme", email=known.email, commands=list(commands or known.granted.commands))


def signed(known: Partner, **changes: Any) -> str:
    claims = jwt.decode(known.granted.token, options={"verify_signature": False})
    return jwt.encode({**claims, **changes}, KEYS["k1"], "HS256", headers={"kid": "k1"})


def execute(url: str, statement: str, user_id: int) -> None:
    with administrator(url) as connection:
        connection.execute(statement, (user_id,))


INTRUDERS: dict[str, tuple[int, Callable[[Services, str, Partner], str | None]]] = {
    "no token": (401, lambda *_: None),
    "a text that is no token": (401, lambda *_: "let me in"),
    "a token as long as can be": (401, lambda *_: "x" * 100_000),
    "a token that is over": (401, lambda _s, _u, p: signed(p, exp=int((utc_now() - timedelta(hours=1)).timestamp()))),
    "an access token": (401, lambda _s, _u, p: signed(p, aud="events-platform-api", email=p.email)),
    "for other commands": (
        403,
        lambda s, _u, p: s.partners.grant(grant_of(p, "events.cancel", "registrations.create")).token,
    ),
    "without the permission": (403, lambda _s, _u, p: signed(p, permissions=["events:read"])),
    "withdrawn": (
        401,
        lambda s, _u, p: (
            s.partners.withdraw(Withdrawal(partner="acme", session_id=p.granted.session_id)) and p.granted.token
        ),
    ),
    "of a session that its owner has ended": (
        401,
        lambda s, _u, p: s.sessions.end(p.granted.session_id, caller(p.user_id)) or p.granted.token,
    ),
    "of someone else's session": (401, lambda s, _u, p: signed(p, sid=str(partner(s).granted.session_id))),
    "of someone who is suspended": (
        401,
        lambda _s, u, p: (
            execute(u, "UPDATE identity.users SET status = 'suspended' WHERE id = %s", p.user_id) or p.granted.token
        ),
    ),
    "from before a new password": (
        401,
        lambda _s, u, p: (
            execute(u, "UPDATE identity.users SET generation = generation + 1 WHERE id = %s", p.user_id)
            or p.granted.token
        ),
    ),
    "of an address that is not confirmed": (
        403,
        lambda _s, u, p: (
            execute(u, "UPDATE identity.users SET verified_at = NULL WHERE id = %s", p.user_id) or p.granted.token
        ),
    ),
}


@pytest.mark.parametrize("intruder", INTRUDERS)
def test_an_intruder_is_answered_so_and_nothing_is_done(
    functions: CommandFunctions, running: Services, migrated_database: str, bus: Bus, acme: Partner, intruder: str
) -> None:
    status, token_of = INTRUDERS[intruder]
    body = new_event()
    token = token_of(running, migrated_database, acme)
    command = acme.message("events.create", {"event": body} | ({} if token is None else {"token": token}))

    assert functions.deliver(command) == 1

    told = problem(the_answer(bus, acme))
    assert told["status"] == status
    assert titled(migrated_database, body["title"]) == 0


def test_the_same_token_without_the_intrusion_is_let_in(functions: CommandFunctions, bus: Bus, acme: Partner) -> None:
    """The control of those whose token is made by hand."""
    functions.deliver(acme.message("events.create", {"event": new_event(), "token": signed(acme)}))

    assert result(the_answer(bus, acme))["status"] == "draft"


def test_a_refusal_of_the_token_is_not_kept_so_that_a_better_one_helps(
    functions: CommandFunctions, running: Services, bus: Bus, acme: Partner
) -> None:
    over = signed(acme, exp=int((utc_now() - timedelta(hours=1)).timestamp()))
    command = acme.message("events.create", {"event": new_event(), "token": over})
    functions.deliver(command)

    functions.deliver(dataclasses.replace(command, data={**command.data, "token": acme.granted.token}))

    refused, done = bus.answers(acme.inbox, 2)
    assert (problem(refused)["status"], result(done)["status"]) == (401, "draft")


def test_a_person_sees_the_grant_among_their_sessions(running: Services, acme: Partner) -> None:
    (session,) = running.sessions.page(caller(acme.user_id), None, 10).items

    assert (session.id, session.partner) == (acme.granted.session_id, "acme")


def test_all_grants_of_a_partner_can_be_withdrawn_at_once_and_are_recorded(
    running: Services, migrated_database: str
) -> None:
    name = f"leaky-{uuid4().hex[:8]}"
    grants = [partner(running, name=name) for _ in range(2)]
    other = partner(running)

    withdrawn = running.partners.withdraw(Withdrawal(partner=name))

    assert set(withdrawn.session_ids) == {each.granted.session_id for each in grants}
    assert not any(is_live(running, each) for each in grants)
    assert is_live(running, other)
    with pytest.raises(NotFoundError):
        running.partners.withdraw(Withdrawal(partner=name))
    with administrator(migrated_database) as connection:
        records = connection.execute(
            "SELECT action, subject_id FROM messaging.audit_log WHERE details->>'partner' = %s ORDER BY id", (name,)
        ).fetchall()
    assert [record["action"] for record in records] == ["partner.granted"] * 2 + ["partner.withdrawn"] * 2
    assert {record["subject_id"] for record in records} == {each.user_id for each in grants}


def is_live(running: Services, known: Partner) -> bool:
    claims = jwt.decode(known.granted.token, options={"verify_signature": False})
    check = running.session_check.check
    return check(int(claims["sub"]), claims["sid"], claims["jti"], claims["gen"]).live


# What they must not be able to do ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "data", "status", "pointers"),
    [
        ("events.create", {}, 422, ["/event"]),
        ("events.create", {"event": {"title": "x"}}, 422, ["/event/title", "/event/starts_at"]),
        ("events.create", {"event": new_event(), "status": "published"}, 422, ["/status"]),
        ("events.create", {"event": {**new_event(), "organizer": {"id": 1}}}, 422, ["/event/organizer"]),
        ("events.create", {"event": {**new_event(), "category": "nonsense"}}, 422, ["/category"]),
        ("events.create", {"event": {**new_event(), "title": "a\x00b"}}, 422, ["/event/title"]),
        ("events.update", {"event_id": "1", "changes": {}}, 422, ["/event_id"]),
        ("events.update", {"event_id": 2**63 - 1, "changes": {"title": "Not mine"}}, 404, []),
        ("events.publish", {"event_id": 1}, 404, []),
    ],
)
def test_what_breaks_a_rule_is_answered_with_all_that_is_wrong(
    functions: CommandFunctions,
    bus: Bus,
    acme: Partner,
    name: str,
    data: dict[str, Any],
    status: int,
    pointers: list[str],
) -> None:
    assert functions.deliver(acme.command(name, **data)) == 1

    told = problem(the_answer(bus, acme))
    assert told["status"] == status
    assert told["type"].startswith("urn:events-platform:problem:")
    assert set(pointers) <= {error["pointer"] for error in told.get("errors", [])}


def test_someone_elses_event_is_not_there(
    functions: CommandFunctions, running: Services, bus: Bus, acme: Partner
) -> None:
    event_id = running.published_event(11)

    functions.deliver(acme.command("events.cancel", event_id=event_id))

    assert problem(the_answer(bus, acme))["status"] == 404
    assert running.catalog.get(event_id, None).status == "published"


def test_what_is_wrong_without_end_is_answered_in_short(functions: CommandFunctions, bus: Bus, acme: Partner) -> None:
    many = {f"{number}-{'x' * 500}": 1 for number in range(1_000)}
    long = {"x" * 500_000: 1}

    assert functions.deliver(acme.command("events.create", **many), acme.command("events.create", **long)) == 2

    answers = bus.answers(acme.inbox, 2)
    assert [problem(answer)["status"] for answer in answers] == [422, 422]
    assert all(len(answer.to_json()) < 40_000 for answer in answers)


def nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


def test_what_is_nested_without_end_is_refused(functions: CommandFunctions, bus: Bus, acme: Partner) -> None:
    """It can be read, and not be written again."""
    command = acme.command("events.create", event="here").to_json().replace(b'"here"', json.dumps(nested(300)).encode())

    assert functions.deliver(command) == 1

    assert problem(the_answer(bus, acme))["status"] == 400


def test_a_message_whose_name_is_too_long_to_be_repeated_is_put_aside_without_its_token(
    functions: CommandFunctions, endpoints: Endpoints, bus: Bus, acme: Partner
) -> None:
    dead_letters = "evp-handle-event-commands.dlt"
    ensure_topics(endpoints.kafka, [dead_letters])
    command = dataclasses.replace(acme.command("events.create", event=new_event()), id="x" * 256)

    assert functions.deliver(command) == 1

    assert bus.seen() == []
    (letter,) = [each for each in everything_in(endpoints.kafka, dead_letters) if b"x" * 256 in (each.value() or b"")]
    assert acme.granted.token.encode() not in (letter.value() or b"")
    assert json.loads(letter.value() or b"")["data"]["token"] == "<redacted>"


@pytest.mark.parametrize(
    "subject",
    [
        "events.published.42",
        "inbound.events.create",
        "$JS.API.STREAM.DELETE.PLATFORM",
        "$SYS.REQ.SERVER.PING",
        "_INBOX",
        "_INBOX.*",
        "_INBOX.>",
        "_INBOX.a b",
        "_INBOX.a\r\nPUB events.published.42 2\r\nhi",
        "_INBOX." + "x" * 300,
        "_INBOX" + ".x" * 20,
        "xreplies.acme",
        ["_INBOX.x"],
        7,
    ],
)
def test_an_answer_goes_nowhere_but_to_where_answers_go(
    functions: CommandFunctions, migrated_database: str, bus: Bus, acme: Partner, subject: Any
) -> None:
    body = new_event()
    command = acme.message("events.create", {"token": acme.granted.token, "event": body})
    command = dataclasses.replace(command, extensions={"replyto": subject})

    assert functions.deliver(command) == 1

    assert bus.seen() == []
    assert titled(migrated_database, body["title"]) == 1


@pytest.mark.parametrize("subject", ["_INBOX.acme.1", "_INBOX_acme.7Hq.1", "replies.acme.orders-7"])
def test_these_are_places_for_answers(functions: CommandFunctions, bus: Bus, acme: Partner, subject: str) -> None:
    """The control of the one above."""
    functions.deliver(waiting_for(acme.command("events.create", event=new_event()), subject))

    assert len(bus.answers(subject)) == 1


def test_a_senders_trace_writes_no_header(functions: CommandFunctions, bus: Bus, acme: Partner) -> None:
    forged = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\nNats-Msg-Id: 1"
    command = dataclasses.replace(acme.command("events.create", event=new_event()), traceparent=forged)

    functions.deliver(command)

    ((_, headers, _),) = bus.seen()
    assert headers.keys() == {"Content-Type", "traceparent"}


def test_an_answer_carries_the_commands_trace(functions: CommandFunctions, bus: Bus, acme: Partner) -> None:
    trace = "0af7651916cd43dd8448eb211c80319c"
    command = acme.command("events.create", event=new_event())

    functions.deliver(dataclasses.replace(command, traceparent=f"00-{trace}-b7ad6b7169203331-01"))

    assert the_answer(bus, acme).traceparent.startswith(f"00-{trace}-")


def test_a_token_stands_nowhere_afterwards(
    functions: CommandFunctions,
    running: Services,
    migrated_database: str,
    bus: Bus,
    acme: Partner,
    capfd: pytest.CaptureFixture[str],
    logged: io.StringIO,
) -> None:
    token = acme.granted.token
    functions.sessions.down = RuntimeError(f"could not check {token}")
    functions.deliver(acme.command("events.create", event=new_event()))
    functions.sessions.down = None

    functions.deliver(
        acme.command("events.create", event=new_event()),
        acme.command("events.create", event={}),
        acme.command("events.cancel", event_id=1),
        acme.message("events.create", {"token": token[:-2] + "xx", "event": {}}),
    )

    answers = b"".join(data for _, _, data in bus.seen())
    captured = capfd.readouterr()
    written = logged.getvalue() + captured.out + captured.err
    assert b"commands.succeeded" in answers
    assert "a command was answered" in written
    assert "could not check <redacted>" in written
    with administrator(migrated_database) as connection:
        kept = "".join(
            str(connection.execute(f"SELECT * FROM {table}").fetchall())
            for table in ("catalog.inbox", "messaging.outbox", "messaging.audit_log", "identity.sessions")
        )
    for part in token.split(".")[1:]:
        assert part not in written
        assert part.encode() not in answers
        assert part not in kept
