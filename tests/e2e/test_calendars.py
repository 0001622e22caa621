"""Series and calendars from outside: what organisers repeat, and what calendar programs get to read."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from icalendar import Calendar

from eventsplatform.identity.model import ROLE_PERMISSIONS
from tests.support.platform import Account, RunningPlatform
from tests.support.polling import eventually


@pytest.fixture(scope="module")
def organiser(platform: RunningPlatform) -> Account:
    return platform.sign_up("Olga Organiser")


@pytest.fixture(scope="module")
def admin(platform: RunningPlatform) -> Account:
    account = platform.sign_up("Ada Admin")
    platform.sql(
        "UPDATE identity.users SET role = 'admin', permissions = %s WHERE id = %s RETURNING id",
        (list(ROLE_PERMISSIONS["admin"]), account.id),
    )
    return platform.sign_in(account.email)


def fetched(url: str, **headers: str) -> httpx.Response:
    """As a calendar program does it, which knows the address and nothing else."""
    return httpx.get(url, headers=headers, timeout=20)


def entries(answer: httpx.Response) -> dict[str, str]:
    assert answer.status_code == 200, answer.text
    calendar = Calendar.from_ical(answer.content)
    return {str(entry["SUMMARY"]): str(entry["STATUS"]) for entry in calendar.walk("VEVENT")}


def series_of(platform: RunningPlatform, organiser: Account, title: str) -> list[int]:
    first = platform.create_event(organiser, published=False, title=title)
    event_ids: list[int] = platform.repeat_event(organiser, first["id"])["event_ids"]
    answer = platform.http.post(f"/v1/events/{first['id']}/publish?scope=all", headers=organiser.headers)
    assert answer.status_code == 200, answer.text
    return event_ids


def test_a_series_is_found_registered_for_and_called_off_one_by_one_and_together(
    platform: RunningPlatform, organiser: Account
) -> None:
    title = "Singing on the roof of the old observatory"
    event_ids = series_of(platform, organiser, title)
    guest = platform.sign_up("Gustav Guest")
    query = {"q": title, "limit": 100}

    def found() -> dict[int, dict[str, Any]]:
        items = platform.http.get("/v1/search/events", params=query).json()["items"]
        return {event["id"]: event for event in items if event["title"].startswith(title)}

    eventually(lambda: set(found()) == set(event_ids))
    assert len({event["series_id"] for event in found().values()}) == 1
    for event_id in event_ids[:2]:
        assert platform.register(guest, event_id)["status"] == "active"

    path = f"/v1/events/{event_ids[1]}"
    changed = platform.http.patch(
        f"{path}?scope=following", headers=organiser.headers, json={"title": f"{title}, with lanterns"}
    )
    assert changed.status_code == 200, changed.text
    eventually(lambda: {found()[each]["title"] for each in event_ids[1:]} == {f"{title}, with lanterns"})
    assert found()[event_ids[0]]["title"] == title
    refused = platform.http.patch(f"{path}?scope=everything", headers=organiser.headers, json={"title": "No"})
    assert refused.status_code == 422
    assert platform.http.post(f"{path}/cancel?scope=following", headers=organiser.headers).status_code == 200
    eventually(lambda: set(found()) == {event_ids[0]})
    listed = platform.http.get(f"{path}/series").json()
    assert [(each["id"], each["status"]) for each in listed["items"]] == [
        (event_ids[0], "published"), (event_ids[1], "cancelled"), (event_ids[2], "cancelled"),
    ]  # fmt: skip


def test_a_calendar_program_follows_a_person_by_an_address_alone(platform: RunningPlatform, organiser: Account) -> None:
    guest = platform.sign_up("Gustav Guest")
    event_id = platform.create_event(organiser, title="An evening to subscribe to")["id"]
    platform.register(guest, event_id)
    url = platform.calendar_feed(guest)["url"]
    assert url.startswith(f"{platform.http.base_url}/v1/users/me/calendar.ics?token=")

    first = fetched(url)
    again = fetched(url, **{"If-None-Match": first.headers["etag"]})

    assert entries(first) == {"An evening to subscribe to": "CONFIRMED"}
    assert first.headers["content-type"] == "text/calendar; charset=utf-8"
    assert first.headers["cache-control"] == "private, max-age=300"
    assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", first.headers["etag"])
    path = f"/v1/events/{event_id}/cancel"
    assert platform.http.post(path, headers=organiser.headers).status_code == 200
    eventually(lambda: entries(fetched(url)) == {"An evening to subscribe to": "CANCELLED"})


def test_an_address_ends_when_it_is_renewed_or_revoked(platform: RunningPlatform) -> None:
    guest = platform.sign_up("Gustav Guest")
    first, second = platform.calendar_feed(guest)["url"], platform.calendar_feed(guest)["url"]
    assert fetched(first).status_code == 404
    assert fetched(second).status_code == 200
    assert platform.http.get("/v1/users/me/calendar", headers=guest.headers).json().keys() == {"created_at"}

    assert platform.http.delete("/v1/users/me/calendar", headers=guest.headers).status_code == 204

    assert fetched(second).status_code == 404
    assert platform.http.get("/v1/users/me/calendar", headers=guest.headers).status_code == 404


def test_a_repeat_of_the_request_gets_the_same_address(platform: RunningPlatform) -> None:
    guest = platform.sign_up("Gustav Guest")
    headers = {**guest.headers, "Idempotency-Key": "a calendar of mine"}

    first, again = (platform.http.post("/v1/users/me/calendar", headers=headers) for _ in range(2))

    assert again.json() == first.json()
    assert again.headers["idempotency-replayed"] == "true"
    assert fetched(first.json()["url"]).status_code == 200


def test_the_calendar_of_who_is_suspended_is_dead(platform: RunningPlatform, admin: Account) -> None:
    guest = platform.sign_up("Gustav Guest")
    url = platform.calendar_feed(guest)["url"]

    answer = platform.http.patch(
        f"/v1/admin/users/{guest.id}", headers=admin.headers, json={"status": "suspended", "reason": "Spam"}
    )

    assert answer.status_code == 200, answer.text
    eventually(lambda: fetched(url).status_code == 404, what="the calendar is dead")
    platform.http.patch(f"/v1/admin/users/{guest.id}", headers=admin.headers, json={"status": "active"})
    eventually(lambda: fetched(url).status_code == 200, what="the calendar is back")


def test_an_event_is_taken_over_and_taken_back(platform: RunningPlatform, organiser: Account) -> None:
    event_id = platform.create_event(organiser, title="An evening to take over")["id"]
    path = f"/v1/events/{event_id}/calendar.ics"
    published = platform.http.get(path)
    assert platform.http.get(path, headers={"If-None-Match": published.headers["etag"]}).status_code == 304
    platform.http.post(f"/v1/events/{event_id}/cancel", headers=organiser.headers)

    cancelled = platform.http.get(path)

    assert published.headers["content-type"] == "text/calendar; charset=utf-8; method=PUBLISH"
    assert cancelled.headers["content-type"] == "text/calendar; charset=utf-8; method=CANCEL"
    before, after = (Calendar.from_ical(each.content).walk("VEVENT")[0] for each in (published, cancelled))
    assert (before["UID"], after["STATUS"]) == (after["UID"], "CANCELLED")
    assert after["SEQUENCE"] > before["SEQUENCE"]
