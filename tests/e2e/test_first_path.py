"""From signing up to hearing about a registration: the first path through every engine, from outside."""

from __future__ import annotations

import asyncio
import json
import re
import secrets
from datetime import timedelta
from typing import Any

import httpx
import nats
import pytest
import websockets
from prometheus_client.parser import text_string_to_metric_families

from eventsplatform.clock import rfc3339, utc_now
from tests.support.platform import PASSWORD, Account, RunningPlatform, event_fields
from tests.support.polling import eventually


@pytest.fixture(scope="module")
def organiser(platform: RunningPlatform) -> Account:
    return platform.sign_up("Olga Organiser")


@pytest.fixture(scope="module")
def guest(platform: RunningPlatform) -> Account:
    return platform.sign_up("Gustav Guest")


def assert_problem(answer: httpx.Response, status: int, code: str) -> dict[str, Any]:
    """RFC 9457, as DESIGN has it; returns the body."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    problem: dict[str, Any] = answer.json()
    assert problem["type"] == f"urn:events-platform:problem:{code}"
    assert problem["title"]
    assert problem["status"] == status
    assert problem["instance"] == answer.request.url.path
    assert problem["request_id"] == answer.headers["x-request-id"]
    return problem


def search(platform: RunningPlatform, **query: Any) -> dict[str, Any]:
    answer = platform.http.get("/v1/search/events", params=query)
    assert answer.status_code == 200, answer.text
    results: dict[str, Any] = answer.json()
    return results


# ---------------------------------------------------------------------------------- signing up and in


def test_an_account_is_opened_and_logs_in(platform: RunningPlatform) -> None:
    # Given an address that nobody uses
    email = f"ada-{secrets.token_hex(6)}@example.org"

    # When someone signs up and logs in
    opened = platform.http.post("/v1/auth/register", json={"email": email, "password": PASSWORD, "name": "Ada"})
    session = platform.http.post("/v1/auth/login", json={"email": email, "password": PASSWORD})

    # Then a mail is on its way, and there is a session as RFC 6749 words it
    assert opened.status_code == 201
    assert opened.json() == {"email": email, "name": "Ada", "status": "verification_sent"}
    assert session.status_code == 200
    assert session.json()["token_type"] == "Bearer"
    assert session.json()["expires_in"] == 900
    assert session.json()["user"]["email"] == email
    assert session.json()["user"]["email_verified"] is False
    assert session.headers["cache-control"] == "no-store"


def test_a_wrong_password_and_an_unknown_address_look_the_same(platform: RunningPlatform, guest: Account) -> None:
    wrong = platform.http.post("/v1/auth/login", json={"email": guest.email, "password": "not the password"})
    unknown = platform.http.post("/v1/auth/login", json={"email": "nobody@example.org", "password": PASSWORD})

    first, second = assert_problem(wrong, 401, "unauthenticated"), assert_problem(unknown, 401, "unauthenticated")
    assert first["detail"] == second["detail"]


# ---------------------------------------------------------------------------------- events


def test_a_draft_is_hidden_from_everyone_but_its_organiser(
    platform: RunningPlatform, organiser: Account, guest: Account
) -> None:
    # Given a draft
    draft = platform.create_event(organiser, published=False, title="A secret party")
    path = f"/v1/events/{draft['id']}"

    # When it is asked for without a token, with another's and with the organiser's
    anonymous, foreign, own = (
        platform.http.get(path, headers=headers) for headers in ({}, guest.headers, organiser.headers)
    )

    # Then only the organiser learns that it exists
    assert_problem(anonymous, 404, "not_found")
    assert_problem(foreign, 404, "not_found")
    assert own.status_code == 200
    assert own.json() == draft
    assert draft["status"] == "draft"
    assert draft["organizer"] == {"id": organiser.id, "name": "Olga Organiser"}


def test_nobody_publishes_or_fills_anothers_draft(
    platform: RunningPlatform, organiser: Account, guest: Account
) -> None:
    draft = platform.create_event(organiser, published=False)

    published = platform.http.post(f"/v1/events/{draft['id']}/publish", headers=guest.headers)
    registered = platform.http.post(f"/v1/events/{draft['id']}/registrations", headers=guest.headers)

    assert_problem(published, 404, "not_found")
    assert_problem(registered, 404, "not_found")


def test_a_published_event_is_there_for_everyone(platform: RunningPlatform, organiser: Account) -> None:
    # Given a published event
    event = platform.create_event(organiser, capacity=7, price={"amount": "12.50", "currency": "EUR"})

    # When someone without a token reads it
    answer = platform.http.get(f"/v1/events/{event['id']}")

    # Then all of it is there, under a version to make changes conditional on
    assert answer.status_code == 200
    assert answer.json() == event
    assert answer.headers["etag"] == '"2"'
    assert event["status"] == "published"
    assert event["version"] == 2
    assert event["available"] == 7
    assert event["price"] == {"amount": "12.50", "currency": "EUR"}


def test_a_token_that_is_no_token_is_refused_even_where_none_is_needed(
    platform: RunningPlatform, organiser: Account
) -> None:
    event = platform.create_event(organiser)

    answer = platform.http.get(f"/v1/events/{event['id']}", headers={"Authorization": "Bearer nonsense"})

    assert_problem(answer, 401, "unauthenticated")


def test_an_event_is_published_once(platform: RunningPlatform, organiser: Account) -> None:
    event = platform.create_event(organiser)

    answer = platform.http.post(f"/v1/events/{event['id']}/publish", headers=organiser.headers)

    assert_problem(answer, 409, "conflict")


# ---------------------------------------------------------------------------------- registrations


def test_who_comes_after_the_last_place_waits_in_line(platform: RunningPlatform, organiser: Account) -> None:
    # Given an event with two places and four people who want to come
    event = platform.create_event(organiser, capacity=2)
    people = [platform.sign_up(f"Person {number}") for number in range(4)]

    # When they register one after the other
    registrations = [platform.register(person, event["id"]) for person in people]

    # Then the first two have a place and the others a place in line
    assert [each["status"] for each in registrations] == ["active", "active", "waitlisted", "waitlisted"]
    assert [each["position"] for each in registrations] == [None, None, 1, 2]

    # And the event tells so as soon as the catalog has heard of it
    def counts() -> tuple[int, int, int]:
        answer = platform.http.get(f"/v1/events/{event['id']}").json()
        return answer["registered"], answer["waitlisted"], answer["available"]

    eventually(lambda: counts() == (2, 2, 0), what="the counts on the event")


def test_nobody_registers_twice(platform: RunningPlatform, organiser: Account, guest: Account) -> None:
    event = platform.create_event(organiser)
    platform.register(guest, event["id"])

    answer = platform.http.post(f"/v1/events/{event['id']}/registrations", headers=guest.headers)

    problem = assert_problem(answer, 409, "conflict")
    assert "already registered" in problem["detail"]


# ---------------------------------------------------------------------------------- search


def test_search_finds_published_events_by_text_facet_and_distance(
    platform: RunningPlatform, organiser: Account
) -> None:
    # Given three published events in Berlin, Potsdam (27 km away) and Munich, a draft, and a word that only they share
    word = "w" + secrets.token_hex(6)
    places = {
        "Berlin": ({"name": "Berlin", "lat": 52.52, "lon": 13.405}, "music", ["jazz", "late"]),
        "Potsdam": ({"name": "Potsdam", "lat": 52.39, "lon": 13.065}, "music", ["jazz"]),
        "Munich": ({"name": "Munich", "lat": 48.137, "lon": 11.575}, "arts", []),
    }
    ids = {
        name: platform.create_event(organiser, title=f"{word} in {name}", location=place, category=category, tags=tags)[
            "id"
        ]
        for name, (place, category, tags) in places.items()
    }
    draft = platform.create_event(organiser, published=False, title=f"{word} unannounced")

    # When they are searched for once the index has heard of them
    everywhere = eventually(
        lambda: (results := search(platform, q=word, sort="date"))["total"] >= 3 and results, what="three hits"
    )
    near_berlin = search(platform, q=word, lat=52.52, lon=13.405, radius_km=50, sort="distance")
    arts = search(platform, q=word, category="arts")
    late = search(platform, q=word, tag="late")
    first_page = search(platform, q=word, sort="date", limit=2)
    second_page = search(platform, q=word, sort="date", limit=2, cursor=first_page["next_cursor"])

    # Then each search finds what it should, and nobody finds the draft
    assert {hit["id"] for hit in everywhere["items"]} == set(ids.values())
    assert draft["id"] not in {hit["id"] for hit in everywhere["items"]}
    assert [hit["id"] for hit in near_berlin["items"]] == [ids["Berlin"], ids["Potsdam"]]
    assert near_berlin["items"][0]["distance_km"] == 0
    assert near_berlin["items"][1]["distance_km"] == pytest.approx(27, abs=2)
    assert [hit["id"] for hit in arts["items"]] == [ids["Munich"]]
    assert [hit["id"] for hit in late["items"]] == [ids["Berlin"]]
    assert [hit["id"] for page in (first_page, second_page) for hit in page["items"]] == [
        hit["id"] for hit in everywhere["items"]
    ]
    assert second_page["next_cursor"] is None

    # And the facets count all matches, that of the category also those which its own filter leaves out
    def counts(results: dict[str, Any], facet: str) -> dict[str, int]:
        return {each["value"]: each["count"] for each in results["facets"][facet]}

    assert counts(everywhere, "category") == {"music": 2, "arts": 1}
    assert counts(everywhere, "tags") == {"jazz": 2, "late": 1}
    assert counts(arts, "category") == {"music": 2, "arts": 1}


# ---------------------------------------------------------------------------------- live


def test_a_registration_is_pushed_to_whoever_may_see_it(
    platform: RunningPlatform, organiser: Account, guest: Account
) -> None:
    # Given an event whose room an onlooker has joined, and its organiser's and the guest's own rooms
    event = platform.create_event(organiser, capacity=3)
    onlooker = platform.sign_up("Otto Onlooker")
    with platform.socket(organiser) as own, platform.socket(guest) as guests, platform.socket(onlooker) as onlookers:
        joined = onlookers.request("join", room=f"event:{event['id']}")
        assert own.request("join", room=f"organizer:{event['id']}")["type"] == "joined"
        assert guests.request("join", room=f"user:{guest.id}")["type"] == "joined"

        # When the guest registers
        registration = platform.register(guest, event["id"])

        # Then the organiser and the guest see who, everyone else only how many
        assert own.next_push("registrations.created")["data"]["user_id"] == guest.id
        assert guests.next_push("registrations.created")["data"]["id"] == registration["id"]
        seen = onlookers.next_push("registrations.created")
        assert seen["data"] == {"event_id": event["id"], "registered": 1, "waitlisted": 0, "available": 2}
        assert seen["epoch"] == joined["epoch"]
        assert seen["offset"] > joined["offset"]

        # And nobody else gets into those rooms
        for room in (f"organizer:{event['id']}", f"user:{guest.id}", "admin"):
            refused = onlookers.request("join", room=room)
            assert (refused["type"], refused["code"]) == ("error", "forbidden")


def test_what_was_missed_is_recovered_by_joining_again(platform: RunningPlatform, organiser: Account) -> None:
    # Given someone who has joined a room, seen one registration and lost the connection
    event = platform.create_event(organiser)
    room = f"event:{event['id']}"
    people = [platform.sign_up() for _ in range(4)]
    with platform.socket(organiser) as before:
        joined = before.request("join", room=room)
        platform.register(people[0], event["id"])
        last_seen = before.next_push("registrations.created")

    # When others register meanwhile, and the room is joined again with the position last seen
    for person in people[1:]:
        platform.register(person, event["id"])
    since = {"epoch": joined["epoch"], "offset": last_seen["offset"]}
    with platform.socket(organiser) as after:
        again = eventually(
            lambda: (
                (answer := after.request("join", room=room, since=since))["offset"] == since["offset"] + 3 and answer
            ),
            what="three more frames in the room",
        )

        # Then it has all that was missed, in order and without a gap
        assert again["recovered"] is True
        assert [frame["offset"] for frame in again["messages"]] == [last_seen["offset"] + step for step in (1, 2, 3)]
        assert [frame["data"]["registered"] for frame in again["messages"]] == [2, 3, 4]

        # And a position in an epoch that the room does not know recovers nothing
        unknown = after.request("join", room=room, since={"epoch": "0" * 16, "offset": last_seen["offset"]})
        assert unknown["recovered"] is False
        assert unknown["messages"] == []


def test_bad_frames_are_answered_and_leave_the_connection_open(platform: RunningPlatform, guest: Account) -> None:
    with platform.socket(guest) as live:
        assert live.request("fly")["code"] == "invalid_input"
        assert live.request("join", room="kitchen")["code"] == "invalid_input"
        assert live.request("join", room="event:1", colour="blue")["code"] == "invalid_input"
        live.connection.send("not JSON")
        assert live.receive()["type"] == "error"

        assert live.request("ping")["type"] == "pong"


def test_a_socket_without_a_token_is_refused(platform: RunningPlatform) -> None:
    async def connect(headers: dict[str, str]) -> int:
        with pytest.raises(websockets.InvalidStatus) as refused:
            await websockets.connect(platform.endpoints["websocket"], additional_headers=headers)
        return refused.value.response.status_code

    assert asyncio.run(connect({})) == 401
    assert asyncio.run(connect({"Authorization": "Bearer nonsense"})) == 401


# ---------------------------------------------------------------------------------- messages


def test_one_trace_runs_from_the_request_to_kafka_nats_and_the_push(
    platform: RunningPlatform, organiser: Account, guest: Account
) -> None:
    # Given a client with a trace of its own, a WebSocket in the event's room, and a service that listens over NATS
    event = platform.create_event(organiser)
    trace_id = secrets.token_hex(16)
    headers = {**guest.headers, "traceparent": f"00-{trace_id}-{secrets.token_hex(8)}-01"}

    async def register_while_listening() -> tuple[httpx.Response, Any]:
        client = await nats.connect(platform.endpoints["nats"])
        try:
            subscription = await client.subscribe("registrations.created.>")
            await client.flush()
            path = f"/v1/events/{event['id']}/registrations"
            answer = await asyncio.to_thread(platform.http.post, path, headers=headers)
            while True:
                message = await subscription.next_msg(timeout=20)
                if json.loads(message.data)["data"]["id"] == answer.json()["id"]:
                    return answer, message
        finally:
            await client.close()

    with platform.socket(organiser) as live:
        live.request("join", room=f"event:{event['id']}")

        # When the guest registers in that trace
        answer, message = asyncio.run(register_while_listening())
        pushed = live.next_push("registrations.created")

    # Then the trace goes on in the NATS message, which is a CloudEvent
    registration_id = answer.json()["id"]
    assert message.subject == f"registrations.created.{registration_id}"
    envelope = json.loads(message.data)
    assert envelope["specversion"] == "1.0"
    assert envelope["type"] == "registrations.created"
    assert envelope["subject"] == str(registration_id)
    assert envelope["partitionkey"] == str(event["id"])
    assert trace_of(message.headers["traceparent"]) == trace_of(envelope["traceparent"]) == trace_id

    # And in the headers of the Kafka record
    (record,) = (
        each
        for each in platform.kafka_records("evp.registrations.v1")
        if each.headers["ce_id"] == f"registration-{registration_id}-1"
    )
    assert trace_of(record.headers["ce_traceparent"]) == trace_id
    assert record.key == str(event["id"])
    assert {**record.value, "via": "evp", "hops": 1} == envelope

    # And in what is pushed to the room
    assert trace_of(pushed["traceparent"]) == trace_id


def trace_of(traceparent: str) -> str:
    """The trace id of a W3C `traceparent`."""
    version, trace_id, _span, _flags = traceparent.split("-")
    assert version == "00"
    return trace_id


def test_every_change_of_an_event_reaches_outside_services_once_and_in_order(
    platform: RunningPlatform, organiser: Account, guest: Account
) -> None:
    # Given an event that was written, published and registered for
    event = platform.create_event(organiser)
    registration = platform.register(guest, event["id"])
    changes = [f"events.created.{event['id']}", f"events.published.{event['id']}"]
    all_changes = [*changes, f"registrations.created.{registration['id']}"]

    # When all of it has come to NATS
    def stored() -> list[str]:
        return [message.subject for message in platform.nats_messages() if message.subject in all_changes]

    subjects = eventually(lambda: len(found := stored()) >= 3 and found, what="three messages in NATS", every=0.2)

    # Then each change stands there once, those of the event in order
    assert sorted(subjects) == sorted(all_changes)
    assert [subject for subject in subjects if subject in changes] == changes


# ---------------------------------------------------------------------------------- what is refused


def test_malformed_json_is_a_bad_request(platform: RunningPlatform) -> None:
    answer = platform.http.post(
        "/v1/auth/login", content=b'{"email": "ada@example.org",', headers={"content-type": "application/json"}
    )

    problem = assert_problem(answer, 400, "malformed_request")
    assert "not JSON" in problem["detail"]


@pytest.mark.parametrize("content_type", ["text/plain", "application/x-www-form-urlencoded", None])
def test_a_body_that_is_not_declared_as_json_is_an_unsupported_media_type(
    platform: RunningPlatform, content_type: str | None
) -> None:
    headers = {"content-type": content_type} if content_type else {}

    credentials = json.dumps({"email": "ada@example.org", "password": PASSWORD})
    answer = platform.http.post("/v1/auth/login", content=credentials, headers=headers)

    assert_problem(answer, 415, "unsupported_media_type")


@pytest.mark.parametrize("path", ["/", "/nothing/here", "/v1", "/v1/events/1/nothing"])
def test_an_unknown_route_is_not_found(platform: RunningPlatform, path: str) -> None:
    assert_problem(platform.http.get(path), 404, "not_found")


@pytest.mark.parametrize("body", [b"[]", b'"ada@example.org"', b"{", b"null"])
def test_what_cannot_be_a_sign_in_is_refused_before_a_function_starts(platform: RunningPlatform, body: bytes) -> None:
    answer = platform.http.post("/v1/auth/login", content=body, headers={"Content-Type": "application/json"})

    assert_problem(answer, 400, "malformed_request")
    assert answer.headers["x-amzn-ErrorType"] == "BadRequestException", "API Gateway's own answer"


def test_what_is_missing_in_a_sign_in_is_pointed_at(platform: RunningPlatform) -> None:
    answer = platform.http.post("/v1/auth/login", json={"email": ["ada@example.org"]})

    problem = assert_problem(answer, 422, "invalid_input")
    assert {error["pointer"] for error in problem["errors"]} == {"/email", "/password"}


def test_unknown_and_impossible_fields_are_named_one_by_one(platform: RunningPlatform, organiser: Account) -> None:
    # Given an event with an unknown field, a category that does not exist and a latitude off the globe
    body = event_fields(colour="blue", capacity=0, location={"name": "Nowhere", "lat": 91, "lon": 0})

    answer = platform.http.post("/v1/events", headers=organiser.headers, json=body)

    problem = assert_problem(answer, 422, "invalid_input")
    assert {error["pointer"] for error in problem["errors"]} == {"/colour", "/capacity", "/location/lat"}
    assert all(error["detail"] for error in problem["errors"])


def test_an_event_in_the_past_or_of_no_category_is_invalid(platform: RunningPlatform, organiser: Account) -> None:
    past = event_fields(starts_at=rfc3339(utc_now() - timedelta(days=1)))
    strange = event_fields(category="quantum")

    for body, pointer in ((past, "/starts_at"), (strange, "/category")):
        answer = platform.http.post("/v1/events", headers=organiser.headers, json=body)
        problem = assert_problem(answer, 422, "invalid_input")
        assert [error["pointer"] for error in problem["errors"]] == [pointer]


def test_a_bad_query_is_invalid(platform: RunningPlatform) -> None:
    answer = platform.http.get("/v1/search/events", params={"lat": "north", "limit": "1000", "nonsense": "1"})

    problem = assert_problem(answer, 422, "invalid_input")
    assert {error["pointer"] for error in problem["errors"]} == {"/query/lat", "/query/limit", "/query/nonsense"}


@pytest.mark.parametrize("authorization", [None, "Bearer", "Bearer nonsense", "Basic YWRhOnBhc3N3b3Jk"])
def test_a_write_without_a_valid_token_is_unauthenticated(platform: RunningPlatform, authorization: str | None) -> None:
    headers = {"Authorization": authorization} if authorization else {}

    answer = platform.http.post("/v1/events", headers=headers, json=event_fields())

    assert_problem(answer, 401, "unauthenticated")
    assert answer.headers["www-authenticate"].startswith("Bearer")


def test_a_body_beyond_the_limit_of_api_gateway_is_too_large(platform: RunningPlatform, organiser: Account) -> None:
    body = b'{"title": "' + b"x" * (10 * 1024 * 1024) + b'"}'

    answer = platform.http.post(
        "/v1/events", content=body, headers={**organiser.headers, "content-type": "application/json"}
    )

    assert_problem(answer, 413, "request_too_large")


def test_every_answer_has_a_request_id_of_its_own(platform: RunningPlatform, organiser: Account) -> None:
    answers = [
        platform.http.get("/health"),
        platform.http.get("/v1/search/events"),
        platform.http.get("/no/such/route"),
        platform.http.post("/v1/events", json={}),
        platform.http.post("/v1/events", json={}, headers=organiser.headers),
    ]

    ids = [answer.headers["x-request-id"] for answer in answers]
    assert len(set(ids)) == len(answers)
    assert all(re.fullmatch(r"[0-9a-f-]{36}", each) for each in ids)


def test_pages_of_the_configured_origin_may_call_the_api(platform: RunningPlatform) -> None:
    # When a browser asks before a write from another origin, without a token
    preflight = platform.http.options(
        "/v1/events",
        headers={
            "Origin": platform.web_origin,
            "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Headers": "authorization,content-type,traceparent",
        },
    )
    read = platform.http.get("/v1/search/events", headers={"Origin": platform.web_origin})

    # Then it is told what it may do, and may read answers
    assert preflight.status_code == 200
    assert preflight.headers["access-control-allow-origin"] == platform.web_origin
    assert "POST" in preflight.headers["access-control-allow-methods"]
    allowed = preflight.headers["access-control-allow-headers"].lower()
    assert {"authorization", "content-type", "traceparent"} <= set(allowed.split(","))
    assert read.headers["access-control-allow-origin"] == platform.web_origin


# ---------------------------------------------------------------------------------- operating it


def test_health_names_every_engine(platform: RunningPlatform) -> None:
    answer = platform.http.get("/health")

    assert answer.status_code == 200
    assert answer.json()["status"] == "healthy"
    assert answer.json()["checks"] == {
        name: {"status": "healthy"} for name in ("database", "partitions", "redis", "search", "kafka", "nats")
    }


def test_metrics_count_requests_by_route_and_not_by_path(platform: RunningPlatform, organiser: Account) -> None:
    # Given an event
    event = platform.create_event(organiser)
    read = {"method": "GET", "endpoint": "/v1/events/{event_id}", "status": "200"}

    def samples() -> list[Any]:
        families = text_string_to_metric_families(platform.http.get("/metrics").text)
        return [sample for family in families for sample in family.samples]

    def reads() -> float:
        return sum(
            each.value
            for each in samples()
            if each.name == "http_requests_total" and read.items() <= each.labels.items()
        )

    before = reads()

    # When it is read twice
    for _ in range(2):
        platform.http.get(f"/v1/events/{event['id']}")

    # Then the route's count has grown by two, its duration is measured, and no label has an id in it
    eventually(lambda: reads() == before + 2, what="two more requests in the metrics")
    names = {each.name for each in samples()}
    assert "http_request_duration_seconds_bucket" in names or "http_request_duration_seconds_sum" in names
    endpoints = {each.labels["endpoint"] for each in samples() if each.name == "http_requests_total"}
    assert not any(re.search(r"/\d", endpoint) for endpoint in endpoints)


def test_the_api_describes_itself(platform: RunningPlatform) -> None:
    document = platform.http.get("/openapi.json").json()
    page = platform.http.get("/docs", follow_redirects=True)

    assert document["openapi"].startswith("3.1")
    assert set(document["paths"]["/v1/events/{event_id}/registrations"]) == {"get", "post"}
    assert page.status_code == 200
    assert page.headers["content-type"].startswith("text/html")
    assert "swagger-ui" in page.text
