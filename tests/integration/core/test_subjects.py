"""Patterns mean what they mean to NATS: a server is asked."""

from __future__ import annotations

import random
from itertools import product

from nats.aio.client import Client

from eventsplatform.messaging.subjects import Pattern, Template, encode
from local.engines import Endpoints
from tests.support.jetstream import over_nats

WORDS = ("a", "b", "a*", "b>")


def patterns() -> list[str]:
    """Every pattern of up to three tokens, with wildcards and with what only looks like some."""
    within, last = (*WORDS, "*"), (*WORDS, "*", ">")
    return [".".join(tokens) for length in (0, 1, 2) for tokens in product(*[within] * length, last)]


def subjects() -> list[str]:
    return [".".join(tokens) for length in (1, 2, 3, 4) for tokens in product(WORDS, repeat=length)]


def received(url: str, filters: list[str], published: list[str]) -> dict[str, set[str]]:
    """What arrives for each filter when everything is published once."""

    async def ask(client: Client) -> dict[str, set[str]]:
        arrived: dict[str, set[str]] = {each: set() for each in filters}
        for each in filters:

            async def note(message: object, into: set[str] = arrived[each]) -> None:
                into.add(message.subject)  # type: ignore[attr-defined]

            await client.subscribe(each, cb=note)
        for subject in published:
            await client.publish(subject)
        await client.flush()
        await client.drain()
        return arrived

    # What the client refuses to subscribe to is for the server to judge.
    return over_nats(url, ask, skip_subject_validation=True)


def test_a_pattern_matches_what_a_server_delivers_for_it(endpoints: Endpoints) -> None:
    """Deliveries of others on the same server are told apart by the subjects that were asked for."""
    filters, published = patterns(), random.Random(1).sample(subjects(), 60)

    arrived = received(endpoints.nats, filters, published)

    asked = set(published)
    for each in filters:
        pattern = Pattern.parse(each)
        assert arrived[each] & asked == {subject for subject in published if pattern.match(subject) is not None}, each
    assert {each for each in filters if not arrived[each] & asked} != set(filters), "the control"


def test_any_text_is_a_token_that_a_server_delivers_as_it_is(endpoints: Endpoints) -> None:
    texts = [" ", ".", "*", ">", "a.b", "\r\nPUB x 1", "ü", "\0", "~", "%2E", "$JS", "𝄞", "a" * 300]
    published = [f"token.{encode(text)}" for text in texts]

    (arrived,) = received(endpoints.nats, ["token.*"], published).values()

    assert arrived == set(published)
    assert {(Pattern.parse("token.{text}").match(each) or {})["text"] for each in arrived} == set(texts)


def test_what_a_template_s_pattern_is_for_a_server_is_a_filter(endpoints: Endpoints) -> None:
    template = Template.parse("t.{type>}.{id}")
    subject = template.subject(lambda name: {"type": "events.created", "id": "4.2"}[name])

    assert received(endpoints.nats, [template.pattern.subject], [subject]) == {"t.>": {subject}}
