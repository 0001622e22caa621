"""A webhook on the whole platform: from a registration over Kafka to an attempt, without anyone's help.

No receiver on this machine can be reached, as none in any private network can: the attempt fails, and the log says why.
That deliveries arrive, and what comes of them, is in tests/integration/core/test_webhooks.py.
"""

from __future__ import annotations

from typing import Any

from tests.support.platform import RunningPlatform
from tests.support.polling import eventually

# Less than until the next sweep: it is the poke that wakes the sender.
WITHIN = 45


def test_a_registration_becomes_an_attempt_to_tell_its_organiser(platform: RunningPlatform) -> None:
    # Given an organiser who wants to be told at an address that leads nowhere (RFC 6761, §6.4)
    organiser, attendee = platform.sign_up("Olga Organiser"), platform.sign_up()
    event_id = platform.create_event(organiser)["id"]
    wanted = {"url": "https://hooks.invalid/box-office", "event_types": ["registrations.*"], "event_ids": [event_id]}
    answer = platform.http.post("/v1/webhooks", headers=organiser.headers, json=wanted)
    assert answer.status_code == 201, answer.text
    path = answer.headers["Location"]
    secret = answer.json()["secret"]
    assert secret.startswith("whsec_")

    def deliveries() -> list[dict[str, Any]]:
        log = platform.http.get(f"{path}/deliveries", headers=organiser.headers)
        assert log.status_code == 200, log.text
        items: list[dict[str, Any]] = log.json()["items"]
        return items

    def attempts() -> list[dict[str, Any]]:
        return [delivery for delivery in deliveries() if delivery["last_attempt"]]

    # When someone registers
    platform.register(attendee, event_id)

    # Then it is tried at once, and will be again
    (delivery,) = eventually(attempts, within=WITHIN, what="an attempt")
    assert (delivery["type"], delivery["event_id"], delivery["status"]) == (
        "registrations.created",
        event_id,
        "pending",
    )
    assert delivery["last_attempt"]["error"] == "the name leads nowhere"
    assert delivery["next_attempt_at"] > delivery["last_attempt"]["at"]
    assert str(attendee.id) in delivery["body"]
    assert attendee.email not in delivery["body"]

    # And it can be asked for sooner, or a test be sent
    def request(**wanted: Any) -> None:
        answer = platform.http.post(f"{path}/deliveries", headers=organiser.headers, json=wanted)
        assert (answer.status_code, answer.json()) == (202, {"queued": 1, "more": False})

    first_try = delivery["last_attempt"]["at"]
    request(kind="some", delivery_ids=[delivery["id"]])
    eventually(lambda: attempts()[0]["last_attempt"]["at"] > first_try, within=WITHIN, what="another attempt")
    request(kind="test")
    eventually(lambda: [each["type"] for each in attempts()][:1] == ["webhooks.test"], within=WITHIN, what="a test")

    # And the secret is told nowhere else
    assert "secret" not in platform.http.get(path, headers=organiser.headers).json()
    rotated = platform.post(f"{path}/secret", 200, account=organiser)
    assert rotated["secret"] != secret
    assert platform.http.delete(path, headers=organiser.headers).status_code == 204
    assert platform.http.get(path, headers=organiser.headers).status_code == 404


def test_a_repeated_request_makes_one_webhook_and_tells_its_secret_again(platform: RunningPlatform) -> None:
    organiser = platform.sign_up("Olga Organiser")
    headers = {**organiser.headers, "Idempotency-Key": "one webhook"}
    wanted = {"url": "https://hooks.invalid/", "event_types": ["events.*"]}

    first, second = (platform.http.post("/v1/webhooks", headers=headers, json=wanted) for _ in range(2))

    assert first.json() == second.json()
    assert second.headers["Idempotency-Replayed"] == "true"
    kept = platform.sql("SELECT outcome::text AS outcome FROM registrations.idempotency_keys")
    assert not any(first.json()["secret"].removeprefix("whsec_") in row["outcome"] for row in kept)
