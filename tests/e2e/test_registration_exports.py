"""Registrations as a file, from outside."""

from __future__ import annotations

import csv
import io

from tests.support.platform import RunningPlatform

CSV = {"Accept": "text/csv"}


def test_an_organiser_takes_the_registrations_away_as_a_file(platform: RunningPlatform) -> None:
    # Given two registrations, one by someone who would like to calculate something
    organiser, ada, eve = (platform.sign_up(name) for name in ("Olga", "Ada Lovelace", "=1+1"))
    event_id = platform.create_event(organiser, timezone="Asia/Tokyo")["id"]
    for account in (ada, eve):
        platform.register(account, event_id)
    path = f"/v1/events/{event_id}/registrations"

    # When the organiser asks for a file, and someone else does
    file = platform.http.get(path, headers=organiser.headers | CSV)
    foreign = platform.http.get(path, headers=ada.headers | CSV)
    picture = platform.http.get(path, headers=organiser.headers | {"Accept": "image/png"})

    # Then it is one, complete, and calculates nothing
    assert file.status_code == 200
    assert file.headers["content-type"] == "text/csv; charset=utf-8; header=present"
    assert file.headers["content-disposition"] == f'attachment; filename="event-{event_id}-registrations.csv"'
    assert "link" not in file.headers
    assert '"export"' in file.headers["ratelimit-policy"]
    lines = list(csv.DictReader(io.StringIO(file.text, newline="")))
    assert [(line["user_id"], line["name"], line["status"]) for line in lines] == [
        (str(ada.id), "Ada Lovelace", "active"),
        (str(eve.id), "'=1+1", "active"),
    ]
    assert foreign.status_code == 403
    assert picture.status_code == 406
