from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from eventsplatform.errors import InvalidInputError
from eventsplatform.pagination import encode_cursor
from eventsplatform.search.index import search_body
from eventsplatform.search.model import EventQuery, IndexedEvent

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)
SENTINEL = "sentinel"


def body(**query: Any) -> dict[str, Any]:
    return search_body(EventQuery.model_validate(query), NOW)


def shape(value: Any) -> Any:
    """A request with every text and number blanked out: its keys and their nesting."""
    if isinstance(value, dict):
        return {key: shape(item) for key, item in value.items()}
    if isinstance(value, list):
        return [shape(item) for item in value]
    return type(value).__name__


searched = st.text(st.characters(exclude_categories=["Cc", "Cs"]), max_size=200).filter(
    lambda text: text.strip() and not set(text) & set("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
)


@given(searched)
def test_the_words_that_are_searched_for_cannot_change_the_structure_of_the_request(words: str) -> None:
    request = body(q=words)

    assert shape(request) == shape(body(q=SENTINEL))
    assert json.loads(json.dumps(request)) == request
    assert request["query"]["bool"]["must"][0]["multi_match"]["query"] == " ".join(words.split())


@pytest.mark.parametrize(
    "words",
    ['"}}}, {"match_all": {}}', "title:*", "* OR status:draft", "{{script}}", "\\", "status:(draft)", "_exists_:id"],
)
def test_query_syntax_in_the_words_is_only_words(words: str) -> None:
    clause = body(q=words)["query"]["bool"]["must"][0]

    assert list(clause) == ["multi_match"]
    assert clause["multi_match"]["query"] == words


@given(searched.filter(lambda text: len(text) <= 50))
def test_a_facet_value_cannot_change_the_structure_of_the_request(value: str) -> None:
    assert shape(body(category=[value], tag=[value])) == shape(body(category=[SENTINEL], tag=[SENTINEL]))


def test_only_published_events_that_are_not_over_are_found() -> None:
    filters = body()["query"]["bool"]["filter"]

    assert {"term": {"status": "published"}} in filters
    assert {"range": {"date": {"gte": "2026-05-01T12:00:00Z"}}} in filters


def test_a_period_is_given_in_utc() -> None:
    period = body(**{"from": "2026-06-01T02:00:00+02:00", "to": "2026-06-02T00:00:00Z"})["query"]["bool"]["filter"][1]

    assert period == {"range": {"date": {"gte": "2026-06-01T00:00:00Z", "lte": "2026-06-02T00:00:00Z"}}}


@pytest.mark.parametrize(
    ("query", "order"),
    [
        ({}, "date"),
        ({"q": "  "}, "date"),
        ({"q": "jazz"}, "relevance"),
        ({"q": "jazz", "sort": "date"}, "date"),
        ({"lat": 1, "lon": 2, "sort": "distance"}, "distance"),
    ],
)
def test_the_order_follows_from_what_is_asked_for(query: dict[str, Any], order: str) -> None:
    assert EventQuery.model_validate(query).order == order


@pytest.mark.parametrize(
    "query",
    [
        {"q": "x" * 201},
        {"q": "a\0b"},
        {"category": ["x"] * 21},
        {"category": ["x" * 51]},
        {"tag": ["\0"]},
        {"lat": 1},
        {"lat": 91, "lon": 0},
        {"lat": "nan", "lon": 0},
        {"lat": 0, "lon": "inf"},
        {"lat": 0, "lon": 0, "radius_km": 0},
        {"lat": 0, "lon": 0, "radius_km": "inf"},
        {"lat": 0, "lon": 0, "radius_km": 20_001},
        {"sort": "distance"},
        {"sort": "price"},
        {"price_max": -1},
        {"price_max": "inf"},
        {"price_max": "nan"},
        {"limit": 0},
        {"limit": 101},
        {"from": "2026-06-01"},
        {"from": "1700000000"},
        {"from": "0001-01-01T00:00:00+14:00"},
        {"cursor": "x" * 501},
        {"colour": "red"},
    ],
)
def test_a_query_that_makes_no_sense_is_refused(query: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        EventQuery.model_validate(query)


POSITIONS: dict[str, tuple[dict[str, Any], list[Any], dict[str, Any]]] = {
    "date": ({}, ["date", 1_780_000_000_000, 42], {"search_after": [1_780_000_000_000, 42]}),
    "relevance": ({"q": "jazz"}, ["relevance", 40], {"from": 40}),
    "distance": ({"lat": 1, "lon": 2, "sort": "distance"}, ["distance", 12.5, 42], {"search_after": [12.5, 42]}),
}


@pytest.mark.parametrize("order", POSITIONS)
def test_a_cursor_continues_behind_the_last_hit(order: str) -> None:
    query, position, continued = POSITIONS[order]

    first, next_page = body(**query), body(**query, cursor=encode_cursor(position))

    assert next_page == {**first, **continued}
    assert not {"from", "search_after"} & set(first)


@pytest.mark.parametrize("order", POSITIONS)
@pytest.mark.parametrize("other", POSITIONS)
def test_a_cursor_of_another_order_is_refused(order: str, other: str) -> None:
    query, _, _ = POSITIONS[order]
    _, position, _ = POSITIONS[other]
    if order == other:
        assert body(**query, cursor=encode_cursor(position))
    else:
        with pytest.raises(InvalidInputError):
            body(**query, cursor=encode_cursor(position))


@pytest.mark.parametrize(
    ("order", "forged"),
    [
        ("date", ["date", "now", 42]),
        ("date", ["date", 1.5, 42]),
        ("date", ["date", 1, "42"]),
        ("date", ["date", 1]),
        ("relevance", ["relevance", "x"]),
        ("relevance", ["relevance", 1.5]),
        ("relevance", ["relevance", 0]),
        ("relevance", ["relevance", -20]),
        ("relevance", ["relevance", 9_980]),
        ("relevance", ["relevance", 2**62]),
        ("distance", ["distance", "near", 42]),
        ("distance", [True, 1.0, 42]),
    ],
)
def test_a_forged_cursor_is_refused_before_it_reaches_the_engine(order: str, forged: list[Any]) -> None:
    query, _, _ = POSITIONS[order]

    with pytest.raises(InvalidInputError):
        body(**query, cursor=encode_cursor(forged))


EVENT: dict[str, Any] = {
    "id": 42,
    "title": "A concert",
    "description": "",
    "starts_at": "2026-06-01T18:00:00Z",
    "ends_at": "2026-06-01T20:00:00Z",
    "timezone": "UTC",
    "location": {"name": "Berlin", "lat": None, "lon": None},
    "capacity": 10,
    "category": "music",
    "tags": [],
    "price": {"amount": "5.00", "currency": "EUR"},
    "status": "published",
    "organizer": {"id": 1, "name": "Ada"},
    "version": 2,
}


def test_an_event_that_could_not_be_answered_to_a_search_is_not_indexed() -> None:
    assert IndexedEvent.of_event(EVENT).id == "42"
    with pytest.raises(ValueError, match="price"):
        IndexedEvent.of_event({**EVENT, "price": "free"})


def test_a_draft_is_not_public() -> None:
    assert IndexedEvent.of_event(EVENT).is_public
    assert not IndexedEvent.of_event({**EVENT, "status": "draft"}).is_public
