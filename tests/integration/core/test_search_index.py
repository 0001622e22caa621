from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from eventsplatform.adapters.opensearch import opensearch_client
from eventsplatform.clock import utc_now
from eventsplatform.errors import DependencyUnavailableError, InvalidInputError, PoisonMessageError
from eventsplatform.pagination import encode_cursor
from eventsplatform.search.index import INDEX, OpenSearchEvents
from eventsplatform.search.model import EventQuery, FoundEvent, IndexedEvent, SearchResults
from eventsplatform.search.service import EventSearch
from local.engines import Endpoints
from tests.support.core_environment import core_environment
from tests.support.polling import eventually

ids = itertools.count(1)
START = datetime.now(UTC).replace(microsecond=0) + timedelta(days=30)

BERLIN = {"name": "Berlin", "lat": 52.52, "lon": 13.405}
POTSDAM = {"name": "Potsdam", "lat": 52.4009, "lon": 13.0591}
HAMBURG = {"name": "Hamburg", "lat": 53.5511, "lon": 9.9937}
SOMEWHERE = {"name": "Somewhere", "lat": None, "lon": None}


class Catalog:
    """The catalog that the index is rebuilt from."""

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []

    def page(self, after_id: int) -> list[dict[str, Any]]:
        return [event for event in self.events if event["id"] > after_id][:2]


@pytest.fixture
def search(adapters: Endpoints) -> Iterator[EventSearch]:
    """A search over an index that holds nothing yet."""
    opensearch_client().indices.delete(index=INDEX, ignore_unavailable=True)
    yield EventSearch(OpenSearchEvents(), Catalog(), utc_now)
    opensearch_client().indices.delete(index=INDEX, ignore_unavailable=True)


def event(**changes: Any) -> dict[str, Any]:
    number = next(ids)
    return {
        "id": number,
        "title": f"Event {number}",
        "description": "",
        "starts_at": START.isoformat(),
        "ends_at": (START + timedelta(hours=2)).isoformat(),
        "timezone": "Europe/Berlin",
        "location": BERLIN,
        "capacity": 10,
        "category": "music",
        "tags": [],
        "price": {"amount": "0.00", "currency": "EUR"},
        "status": "published",
        "organizer": {"id": 1, "name": "Ada"},
        "version": 2,
        **changes,
    }


def index(search: EventSearch, *events: dict[str, Any]) -> None:
    search.learn_events([IndexedEvent.of_event(each) for each in events])
    opensearch_client().indices.refresh(index=INDEX)


def find(search: EventSearch, **query: Any) -> SearchResults:
    return search.find(EventQuery.model_validate(query))


def titles(results: SearchResults) -> list[str]:
    return [found.title for found in results.items]


def test_an_event_is_found_as_it_was_told_and_within_a_second(search: EventSearch) -> None:
    told = event(title="Night of the Proms", tags=["classical"], price={"amount": "49.90", "currency": "GBP"})
    search.learn_events([IndexedEvent.of_event(told)])

    (found,) = eventually(lambda: find(search, q="proms").items, within=5)

    assert found == FoundEvent.model_validate(told)


def test_words_are_found_in_titles_descriptions_tags_and_places(search: EventSearch) -> None:
    index(
        search,
        event(title="Jazz at dawn"),
        event(title="Breakfast", description="With improvised jazz music"),
        event(title="Club night", tags=["jazz"]),
        event(title="Ballet", location={**SOMEWHERE, "name": "Jazz Café"}),
        event(title="Opera"),
    )

    found = titles(find(search, q="jazz"))

    assert set(found) == {"Jazz at dawn", "Breakfast", "Club night", "Ballet"}
    assert found[0] == "Jazz at dawn", "a title counts double"


def test_a_mistyped_word_is_found(search: EventSearch) -> None:
    index(search, event(title="Symphony concert"), event(title="Football"))

    assert titles(find(search, q="simphony")) == ["Symphony concert"]
    assert titles(find(search, q="concrt")) == ["Symphony concert"]


def test_a_late_message_does_not_overwrite_a_newer_one(search: EventSearch) -> None:
    newer = event(title="Now on Sunday", version=5)
    index(search, newer)

    index(search, {**newer, "title": "Still on Saturday", "version": 4})

    assert titles(find(search)) == ["Now on Sunday"]


def test_a_newer_message_and_the_same_one_again_are_taken(search: EventSearch) -> None:
    first = event(title="Draft of a title", version=2)
    index(search, first)
    index(search, {**first, "title": "A title", "version": 3})
    index(search, {**first, "title": "A title", "version": 3})

    assert titles(find(search)) == ["A title"]


def test_messages_of_one_batch_are_taken_in_their_order(search: EventSearch) -> None:
    first = event(version=2)

    index(search, first, {**first, "title": "Second", "version": 3}, {**first, "title": "Third", "version": 4})

    assert titles(find(search)) == ["Third"]


def test_a_draft_is_not_indexed_and_what_is_cancelled_or_over_is_not_found(search: EventSearch) -> None:
    index(
        search,
        event(status="draft", version=1),
        event(status="cancelled", version=3),
        event(status="completed", version=3),
        event(title="Tomorrow"),
        event(title="Yesterday", starts_at=(utc_now() - timedelta(days=1)).isoformat()),
    )

    assert titles(find(search)) == ["Tomorrow"]


def test_an_event_that_is_cancelled_is_no_longer_found(search: EventSearch) -> None:
    published = event()
    index(search, published)
    assert find(search).total == 1

    index(search, {**published, "status": "cancelled", "version": 3})

    assert find(search).total == 0


def test_a_place_is_searched_around_and_sorted_by_distance(search: EventSearch) -> None:
    index(
        search,
        event(title="Hamburg", location=HAMBURG),
        event(title="Potsdam", location=POTSDAM),
        event(title="Berlin"),
        event(title="Nowhere", location=SOMEWHERE),
    )

    near = find(search, lat=52.52, lon=13.405, radius_km=50, sort="distance")
    far = find(search, lat=52.52, lon=13.405, radius_km=500, sort="distance")

    assert titles(near) == ["Berlin", "Potsdam"]
    assert titles(far) == ["Berlin", "Potsdam", "Hamburg"]
    assert [found.distance_km for found in far.items] == [0, pytest.approx(27, abs=2), pytest.approx(255, abs=5)]


def test_prices_and_periods_bound_what_is_found(search: EventSearch) -> None:
    index(
        search,
        event(title="Free"),
        event(title="Cheap", price={"amount": "9.99", "currency": "EUR"}),
        event(title="Dear", price={"amount": "10.01", "currency": "EUR"}),
        event(title="Later", starts_at=(START + timedelta(days=10)).isoformat()),
    )
    within = {"from": START.isoformat(), "to": (START + timedelta(days=1)).isoformat()}

    assert set(titles(find(search, price_max=10, **within))) == {"Free", "Cheap"}
    assert set(titles(find(search, price_max=0))) == {"Free", "Later"}
    assert titles(find(search, **{"from": (START + timedelta(days=1)).isoformat()})) == ["Later"]


def test_events_that_are_over_can_be_asked_for(search: EventSearch) -> None:
    yesterday = utc_now() - timedelta(days=1)
    index(search, event(title="Yesterday", starts_at=yesterday.isoformat()))

    assert titles(find(search, **{"from": (yesterday - timedelta(hours=1)).isoformat()})) == ["Yesterday"]


def test_facets_count_all_matches_and_ignore_their_own_filter(search: EventSearch) -> None:
    index(
        search,
        *(event(category="music", tags=["open air"]) for _ in range(3)),
        *(event(category="tech", tags=["open air", "python"]) for _ in range(2)),
        event(category="food"),
    )

    results = find(search, category=["music"], limit=1)

    assert results.total == 3
    assert len(results.items) == 1
    counted = {facet.value: facet.count for facet in results.facets["category"]}
    assert counted == {"music": 3, "tech": 2, "food": 1}


def test_the_filter_of_one_facet_bounds_the_other(search: EventSearch) -> None:
    index(
        search,
        event(category="music", tags=["open air"]),
        event(category="tech", tags=["open air"]),
        event(category="tech", tags=["python"]),
    )

    results = find(search, category=["tech"])

    assert {facet.value: facet.count for facet in results.facets["tags"]} == {"open air": 1, "python": 1}


@pytest.mark.parametrize(
    "query", [{}, {"q": "event"}, {"lat": 52.52, "lon": 13.405, "radius_km": 20_000, "sort": "distance"}]
)
def test_pages_hold_every_event_once_at_any_depth(search: EventSearch, query: dict[str, Any]) -> None:
    """Many have the same date, score and distance: the id decides between them."""
    events = [event(title="An event", starts_at=(START + timedelta(days=n % 3)).isoformat()) for n in range(95)]
    index(search, *events)

    seen: list[int] = []
    cursor: str | None = None
    for _ in range(11):
        page = find(search, **query, limit=10, **({"cursor": cursor} if cursor else {}))
        seen += [found.id for found in page.items]
        cursor = page.next_cursor
        if cursor is None:
            break

    assert cursor is None
    assert sorted(seen) == [each["id"] for each in events]


def test_a_page_behind_ten_thousand_hits_costs_a_page(search: EventSearch) -> None:
    """`from`/`size` ends at index.max_result_window; a sort key does not."""
    position = encode_cursor(["date", int(START.timestamp() * 1000) - 1, 10**15])
    index(search, event(title="Behind"))

    assert titles(find(search, cursor=position)) == ["Behind"]


@pytest.mark.parametrize("cursor", ["x", encode_cursor(["relevance", 20]), encode_cursor(["date", "x", 1])])
def test_a_foreign_cursor_is_refused(search: EventSearch, cursor: str) -> None:
    index(search, event())

    with pytest.raises(InvalidInputError):
        find(search, cursor=cursor)


@pytest.mark.parametrize(
    "words",
    ['"', "\\", "a AND", "title:x", "*", "?", "(", "[1 TO 2]", "~", "^5", "<script>", "🎺", "x" * 200, "a " * 100],
)
def test_any_words_are_a_search(search: EventSearch, words: str) -> None:
    index(search, event())

    assert find(search, q=words).total >= 0


def test_there_is_nothing_to_find_before_the_first_event(search: EventSearch) -> None:
    results = find(search, q="anything")

    assert (results.items, results.total, results.next_cursor) == ([], 0, None)
    assert results.facets == {"category": [], "tags": []}


def test_an_engine_that_lost_everything_gets_its_mapping_back(search: EventSearch) -> None:
    index(search, event(location=BERLIN))
    opensearch_client().indices.delete(index=INDEX)

    index(search, event(title="Again", location=BERLIN))

    assert titles(find(search, lat=52.52, lon=13.405, sort="distance")) == ["Again"]
    mapping = opensearch_client().indices.get_mapping(index=INDEX)[INDEX]["mappings"]["properties"]
    assert mapping["location"]["type"] == "geo_point"


def test_the_index_is_rebuilt_page_by_page_from_the_catalog(search: EventSearch) -> None:
    catalog = search._events
    assert isinstance(catalog, Catalog)
    catalog.events = [event() for _ in range(5)]
    pages = [search.reindex_page(0)]
    while pages[-1].last_id is not None:
        pages.append(search.reindex_page(pages[-1].last_id))
    opensearch_client().indices.refresh(index=INDEX)

    assert [page.indexed for page in pages] == [2, 2, 1, 0]
    assert find(search).total == 5


def test_what_the_engine_refuses_for_good_is_poison(search: EventSearch) -> None:
    far = event()
    index(search, far)
    unsound = IndexedEvent(version=3, document={**far, "starts_at": "not a date"})

    with pytest.raises(PoisonMessageError, match=str(far["id"])):
        search.learn_events([unsound])


def test_an_engine_that_is_down_is_unavailable() -> None:
    nowhere = Endpoints(opensearch="http://127.0.0.1:1")
    with core_environment(nowhere):
        search = EventSearch(OpenSearchEvents(), Catalog(), utc_now)
        with pytest.raises(DependencyUnavailableError):
            find(search)
        with pytest.raises(DependencyUnavailableError):
            search.learn_events([IndexedEvent.of_event(event())])


def test_what_is_indexed_is_what_is_answered(search: EventSearch) -> None:
    told = event(
        title="Ünïcödé – 音楽 🎺", description='"quoted"\n\tlines', tags=["a'b\"c"], location={**BERLIN, "name": "Łódź"}
    )
    index(search, told)

    (found,) = find(search).items

    assert json.loads(found.model_dump_json())["title"] == told["title"]
    assert (found.description, found.tags, found.location.name) == (told["description"], told["tags"], "Łódź")
