"""Tickets and the door, over the API as apps and devices use it."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import uuid4

import httpx
import pytest

from eventsplatform.clock import rfc3339, utc_now
from tests.support.platform import Account, RunningPlatform
from tests.support.polling import eventually
from tests.support.qr_codes import from_png, from_svg, read


@pytest.fixture(scope="module")
def organiser(platform: RunningPlatform) -> Account:
    return platform.sign_up("Olga Organiser")


@pytest.fixture(scope="module")
def steward(platform: RunningPlatform) -> Account:
    return platform.sign_up("Stefan Steward")


@pytest.fixture(scope="module")
def guest(platform: RunningPlatform) -> Account:
    return platform.sign_up("Grace Guest")


@pytest.fixture
def event_id(platform: RunningPlatform, organiser: Account, steward: Account) -> int:
    """With a steward who may check in, as registrations has learnt."""
    event_id = int(platform.create_event(organiser)["id"])
    path = f"/v1/events/{event_id}/team/{steward.id}"
    assert platform.http.put(path, headers=organiser.headers, json={"role": "check_in"}).status_code == 200
    door = f"/v1/events/{event_id}/check-ins"
    eventually(lambda: platform.http.get(door, headers=steward.headers).status_code == 200, what="the steward's role")
    return event_id


def ticket(platform: RunningPlatform, account: Account, registration_id: int, accept: str = "*/*") -> httpx.Response:
    path = f"/v1/registrations/{registration_id}/ticket"
    return platform.http.get(path, headers={**account.headers, "Accept": accept})


def check_in(platform: RunningPlatform, account: Account, event_id: int, **body: Any) -> httpx.Response:
    return platform.http.post(f"/v1/events/{event_id}/check-ins", headers=account.headers, json=body)


def test_a_ticket_is_json_a_drawing_or_a_picture_and_all_say_the_same(
    platform: RunningPlatform, guest: Account, event_id: int
) -> None:
    registration_id = platform.register(guest, event_id)["id"]

    as_json = ticket(platform, guest, registration_id)
    svg = ticket(platform, guest, registration_id, "image/svg+xml")
    png = ticket(platform, guest, registration_id, "image/png, */*;q=0.1")
    neither = ticket(platform, guest, registration_id, "text/csv")

    token = as_json.json()["token"]
    assert as_json.json()["event"]["id"] == event_id
    assert (svg.headers["content-type"], read(from_svg(svg.content))) == ("image/svg+xml", token)
    assert (png.headers["content-type"], read(from_png(png.content))) == ("image/png", token)
    assert neither.status_code == 406
    assert all(answer.headers["cache-control"] == "no-store" for answer in (as_json, svg, png))


def test_a_steward_lets_a_guest_in_once_and_the_organiser_sees_it_live(
    platform: RunningPlatform, organiser: Account, steward: Account, guest: Account, event_id: int
) -> None:
    registration_id = platform.register(guest, event_id)["id"]
    token = ticket(platform, guest, registration_id).json()["token"]

    with platform.socket(organiser) as live:
        assert live.request("join", room=f"organizer:{event_id}")["type"] == "joined"
        first = check_in(platform, steward, event_id, token=token, scan_id=str(uuid4()))
        second = check_in(platform, organiser, event_id, token=token)
        pushed = live.next_push("registrations.checked_in")["data"]

    assert first.status_code == 200, first.text
    assert (first.json()["user_id"], first.json()["checked_in_by"]) == (guest.id, steward.id)
    assert second.status_code == 409
    assert (second.json()["outcome"], second.json()["check_in"]) == ("already_checked_in", first.json())
    assert (pushed["user_id"], pushed["counts"]["checked_in"]) == (guest.id, 1)
    assert ticket(platform, guest, registration_id).json()["status"] == "checked_in"
    listed = platform.http.get(f"/v1/events/{event_id}/check-ins", headers=steward.headers).json()
    assert listed["items"] == [first.json()]

    path = f"/v1/events/{event_id}/check-ins/{registration_id}"
    assert platform.http.delete(path, headers=steward.headers).status_code == 204
    assert check_in(platform, steward, event_id, token=token).status_code == 200
    assert platform.differences(event=event_id) == []


def test_who_helps_hears_of_registrations_for_as_long_as_they_help(
    platform: RunningPlatform, organiser: Account, steward: Account, guest: Account, event_id: int
) -> None:
    room = f"organizer:{event_id}"
    with platform.socket(steward) as live:
        assert live.request("join", room=room)["type"] == "joined"
        platform.register(guest, event_id)
        assert live.next_push("registrations.created")["data"]["user_id"] == guest.id

        path = f"/v1/events/{event_id}/team/{steward.id}"
        assert platform.http.delete(path, headers=organiser.headers).status_code == 204

        assert live.receive() == {"type": "left", "room": room}
        assert live.request("join", room=room)["code"] == "forbidden"


def test_a_device_that_was_offline_tells_of_its_scans_and_again_when_the_answer_is_lost(
    platform: RunningPlatform, organiser: Account, guest: Account, event_id: int
) -> None:
    registration_id = platform.register(guest, event_id)["id"]
    token = ticket(platform, guest, registration_id).json()["token"]
    bundle = f"/v1/events/{event_id}/check-ins/bundle"
    before = platform.http.get(bundle, headers=organiser.headers).json()
    scanned_at = rfc3339(utc_now() - timedelta(seconds=1))
    scans = [
        {"scan_id": str(uuid4()), "scanned_at": scanned_at, "token": token},
        {"scan_id": str(uuid4()), "scanned_at": rfc3339(utc_now()), "token": token},
        {"scan_id": str(uuid4()), "scanned_at": scanned_at, "token": "no ticket"},
    ]

    first = check_in(platform, organiser, event_id, scans=scans)
    again = check_in(platform, organiser, event_id, scans=scans)
    after = platform.http.get(bundle, params={"since": before["until"]}, headers=organiser.headers).json()

    assert [each["outcome"] for each in first.json()["items"]] == ["checked_in", "already_checked_in", "forged"]
    assert again.json() == first.json()
    assert [each["registration_id"] for each in after["check_ins"]] == [registration_id]
    assert (before["checked_in"], after["checked_in"], after["attendees"]) == (0, 1, 1)
