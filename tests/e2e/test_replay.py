"""`python -m local replay` on a running platform: what was lost is there again, and nobody hears of it."""

from __future__ import annotations

import re
import subprocess
import sys
from datetime import timedelta

import httpx
import pytest

from eventsplatform.clock import rfc3339, utc_now
from tests.support.platform import ROOT, RunningPlatform
from tests.support.polling import eventually


def command(platform: RunningPlatform, *arguments: str) -> subprocess.CompletedProcess[str]:
    program = [sys.executable, "-m", "local", "replay", *arguments, "--state", str(platform.state)]
    return subprocess.run(program, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)


def test_projections_that_were_lost_are_restored_and_nobody_is_told_again(platform: RunningPlatform) -> None:
    # Given an event that people have registered for, were mailed about and watch
    since = rfc3339(utc_now() - timedelta(seconds=5))
    ada, ben, cem = (platform.sign_up(name) for name in ("Ada", "Ben", "Cem"))
    created = platform.create_event(ada, title="Told once", capacity=5)
    event, version = created["id"], created["version"]
    platform.register(ben, event)
    eventually(lambda: any("Told once" in mail["subject"] for mail in platform.mails(ben.email)), what="the mail")
    assert platform.differences(event=event) == []
    mails = platform.mails(ben.email)
    with platform.socket(ada) as watching:
        joined = watching.request("join", room=f"event:{event}")

        # When what the catalog counts and what the search engine knows of it is lost
        platform.sql("DELETE FROM catalog.event_counts WHERE event_id = %s RETURNING event_id", (event,))
        platform.sql(
            "UPDATE catalog.events SET registered = 0, counts_version = 0 WHERE id = %s RETURNING id", (event,)
        )
        index = f"{platform.endpoints['opensearch']}/events/_doc/{event}"
        # Under its own version: what is deleted stands in the way of versions before that.
        deleted = httpx.delete(index, params={"refresh": True, "version": version, "version_type": "external_gte"})
        assert deleted.is_success, deleted.text
        assert platform.differences(event=event, within=0.1), "the control"

        # And what was told is replayed
        dry = command(platform, "topic", "evp.events.v1", "--since", since, "--dry-run")
        assert re.search(r"\d+ messages would be sent: .*\d+ events\.published", dry.stdout), dry.stderr
        assert platform.differences(event=event, within=0.1), "a dry run changes nothing"
        for topic in ("evp.events.v1", "evp.registrations.v1"):
            done = command(platform, "topic", topic, "--since", since)
            assert re.search(r"\d+ messages sent as replay [0-9a-f]{32}: ", done.stdout), done.stderr

        # Then it is there again
        assert platform.differences(event=event) == []

        # And what is pushed next is what happens next, with no offset in between
        platform.register(cem, event)
        push = watching.next_push("registrations.created")
        assert push["offset"] == joined["offset"] + 1
        assert watching.pushes == []
    assert platform.mails(ben.email) == mails


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("dead-letters", "evp-nobody"), "There is no topic evp-nobody.dlt."),
        (("topic", "evp.events.v1", "--since", "yesterday"), "since"),
    ],
)
def test_what_is_not_there_to_be_replayed_is_said(
    platform: RunningPlatform, arguments: tuple[str, ...], said: str
) -> None:
    answer = command(platform, *arguments)

    assert answer.returncode == 1
    assert said in answer.stderr
    assert "To go on: the same command" in answer.stderr


def test_what_a_group_has_put_aside_is_replayed_when_there_is_any(platform: RunningPlatform) -> None:
    answer = command(platform, "dead-letters", "evp-release-registrations", "--dry-run")

    assert re.match(r"\d+ messages would be sent", answer.stdout), answer.stderr
