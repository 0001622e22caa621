from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from eventsplatform.catalog.model import EventIn
from tests.support.database import event_in


def refused(**changes: Any) -> list[tuple[Any, ...]]:
    """Where an event with these changes is refused."""
    with pytest.raises(ValidationError) as error:
        event_in(**changes)
    return [problem["loc"] for problem in error.value.errors()]


@pytest.mark.parametrize(
    "changes",
    [
        {"title": "abc"},
        {"title": "x" * 255},
        {"description": "x" * 5_000},
        {"capacity": 1},
        {"capacity": 100_000},
        {"location": {"name": "x" * 500, "lat": 90, "lon": -180}},
        {"location": {"name": "Somewhere"}},
        {"tags": [f"tag {n}" for n in range(20)]},
        {"tags": ["x" * 50]},
        {"price": {"amount": 0, "currency": "JPY"}},
        {"price": {"amount": "9999999999.99", "currency": "EUR"}},
        {"timezone": "America/Argentina/Ushuaia"},
        {"timezone": "America/Argentina/Ushuaia", "ends_at": "9999-12-31T23:30:00Z"},
    ],
)
def test_an_event_at_the_edge_of_what_is_allowed_is_accepted(changes: dict[str, Any]) -> None:
    assert isinstance(event_in(**changes), EventIn)


@pytest.mark.parametrize(
    ("changes", "where"),
    [
        ({"title": "ab"}, ("title",)),
        ({"timezone": "Asia/Tokyo", "ends_at": "9999-12-31T23:30:00Z"}, ()),
        ({"title": "  a  "}, ("title",)),
        ({"title": "x" * 256}, ("title",)),
        ({"title": "a\0bcd"}, ("title",)),
        ({"description": "x" * 5_001}, ("description",)),
        ({"description": "\0"}, ("description",)),
        ({"capacity": 0}, ("capacity",)),
        ({"capacity": 100_001}, ("capacity",)),
        ({"capacity": "10"}, ("capacity",)),
        ({"capacity": True}, ("capacity",)),
        ({"capacity": 10**100}, ("capacity",)),
        ({"location": {"name": " "}}, ("location", "name")),
        ({"location": {"name": "a\0"}}, ("location", "name")),
        ({"location": {"name": "x", "lat": 1}}, ("location",)),
        ({"location": {"name": "x", "lat": 90.01, "lon": 0}}, ("location", "lat")),
        ({"location": {"name": "x", "lat": 0, "lon": -180.01}}, ("location", "lon")),
        ({"location": {"name": "x", "lat": float("nan"), "lon": 0}}, ("location", "lat")),
        ({"location": {"name": "x", "lat": 0, "lon": float("inf")}}, ("location", "lon")),
        ({"location": {"name": "x", "street": "y"}}, ("location", "street")),
        ({"tags": ["x"] * 21}, ("tags",)),
        ({"tags": ["x" * 51]}, ("tags", 0)),
        ({"tags": ["ok", " "]}, ("tags", 1)),
        ({"tags": ["a\0"]}, ("tags", 0)),
        ({"price": {"amount": -1, "currency": "EUR"}}, ("price", "amount")),
        ({"price": {"amount": "1.005", "currency": "EUR"}}, ("price", "amount")),
        ({"price": {"amount": "10000000000", "currency": "EUR"}}, ("price", "amount")),
        ({"price": {"amount": "NaN", "currency": "EUR"}}, ("price", "amount")),
        ({"price": {"amount": 1, "currency": "eur"}}, ("price", "currency")),
        ({"price": {"amount": 1, "currency": "EUR\n"}}, ("price", "currency")),
        ({"timezone": "Berlin"}, ("timezone",)),
        ({"timezone": "../../etc/passwd"}, ("timezone",)),
        ({"status": "published"}, ("status",)),
    ],
)
def test_an_event_beyond_what_is_allowed_is_refused_where_it_is_wrong(
    changes: dict[str, Any], where: tuple[Any, ...]
) -> None:
    assert refused(**changes) == [where]


def test_an_event_ends_after_it_starts() -> None:
    moment = "2030-05-01T18:00:00Z"

    assert refused(starts_at=moment, ends_at=moment) == [()]


def test_tags_are_lower_case_and_distinct_in_the_order_given() -> None:
    assert event_in(tags=["Jazz", " jazz ", "Open  Air"]).tags == ["jazz", "open air"]
