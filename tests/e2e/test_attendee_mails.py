"""Mails to attendees on the whole platform: from a request over Kafka to the mailbox."""

from __future__ import annotations

from tests.support.platform import Account, RunningPlatform
from tests.support.polling import eventually


def subjects(platform: RunningPlatform, account: Account, title: str) -> list[str]:
    """Of the mails about the event, up to its title."""
    found = [mail["subject"] for mail in platform.mails(account.email)]
    return [subject.removesuffix(f": {title}") for subject in found if subject.endswith(f": {title}")]


def test_who_registers_waits_is_offered_a_place_and_loses_it_with_the_event_reads_so_in_mails(
    platform: RunningPlatform,
) -> None:
    # Given an event with one place, and two people who want it
    organiser, first, second = (platform.sign_up(name) for name in ("Olga", "Ada", "Grace"))
    event = platform.create_event(organiser, capacity=1)
    path, title = f"/v1/events/{event['id']}", event["title"]

    def told(*expected: list[str]) -> None:
        what = [subjects(platform, account, title) for account in (first, second)]
        assert what == list(expected), what

    # When they register, the first one gives the place up, and the event is called off
    platform.register(first, event["id"])
    platform.register(second, event["id"])
    eventually(lambda: told(["You have a place"], ["You are in line"]) is None, within=20)
    assert platform.http.delete(f"{path}/registrations/me", headers=first.headers).status_code == 204
    eventually(lambda: len(subjects(platform, second, title)) == 2, within=20)
    platform.post(f"{path}/cancel", 200, account=organiser, reason="The band is ill.")
    eventually(lambda: len(subjects(platform, second, title)) == 3, within=20)

    # Then each has read of it, once, and who no longer comes of no cancellation
    told(
        ["You have a place", "Your registration is cancelled"],
        ["You are in line", "A place for you", "Cancelled"],
    )
    offer, cancellation = platform.mails(second.email)[-2:]
    assert any(link.endswith(f"/events/{event['id']}/offer") for link in offer["links"])
    assert "> The band is ill." in cancellation["text"]
