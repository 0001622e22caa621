"""The `events` index: its mapping (the seed's), its documents and its queries.

Text from users only ever stands in a value of the query's JSON, so it cannot change its structure.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

from opensearchpy.exceptions import RequestError

from eventsplatform.adapters.opensearch import opensearch_required
from eventsplatform.clock import rfc3339
from eventsplatform.errors import DependencyUnavailableError, PoisonMessageError
from eventsplatform.pagination import decode_cursor, encode_cursor, invalid_cursor
from eventsplatform.search.model import EventQuery, Facet, FoundEvent, IndexedEvent, SearchResults, Sort

INDEX = "events"
# OpenSearch makes a document searchable at its next refresh; a commit must be found within a second.
REFRESH_INTERVAL = "200ms"
FACETS = ("category", "tags")
FACET_SIZE = 50
# `index.max_result_window`: how far into the results a position may be counted.
RESULT_WINDOW = 10_000

MAPPING: dict[str, Any] = {
    "settings": {"index": {"refresh_interval": REFRESH_INTERVAL}},
    "mappings": {
        "dynamic": False,
        "properties": {
            "id": {"type": "long"},
            "title": {"type": "text", "analyzer": "standard", "search_analyzer": "standard"},
            "description": {"type": "text", "analyzer": "english"},
            "place": {"type": "text"},
            "location": {"type": "geo_point"},
            "date": {"type": "date"},
            "category": {"type": "keyword"},
            "tags": {"type": "keyword"},
            "price": {"type": "scaled_float", "scaling_factor": 100},
            "status": {"type": "keyword"},
            "source": {"type": "object", "enabled": False},
        },
    },
}


class OpenSearchEvents:
    def search(self, query: EventQuery, now: datetime) -> SearchResults:
        """Raises DependencyUnavailableError when OpenSearch is down, InvalidInputError for a foreign cursor."""
        body = search_body(query, now)
        with opensearch_required() as client:
            answer = client.search(index=INDEX, body=body, ignore_unavailable=True)
        hits = answer["hits"]["hits"]
        page = hits[: query.limit]
        return SearchResults(
            items=[_found(hit, query) for hit in page],
            next_cursor=_next_cursor(query, page) if len(hits) > query.limit else None,
            total=answer["hits"]["total"]["value"],
            facets={field: _facet(answer, field) for field in FACETS},
        )

    def put(self, events: Sequence[IndexedEvent]) -> None:
        lines: list[dict[str, Any]] = []
        for event in events:
            lines.append(
                {"index": {"_index": INDEX, "_id": event.id, "version": event.version, "version_type": "external_gte"}}
            )
            lines.append(document_of(event.document))
        with opensearch_required() as client:
            self._ensure_index(client)
            answer = client.bulk(body=lines)
        if answer["errors"]:
            _raise_for_failed([item["index"] for item in answer["items"]])

    def count(self) -> int:
        with opensearch_required() as client:
            client.indices.refresh(index=INDEX)
            return int(client.count(index=INDEX)["count"])

    def _ensure_index(self, client: Any) -> None:
        """Asked each time: an engine that lost everything gets its mapping back before the first document."""
        if client.indices.exists(index=INDEX):
            return
        try:
            client.indices.create(index=INDEX, body=MAPPING)
        except RequestError as error:
            if error.error != "resource_already_exists_exception":
                raise


def search_body(query: EventQuery, now: datetime) -> dict[str, Any]:
    """The search request of a query; one hit more than the page tells whether there is a next."""
    body: dict[str, Any] = {
        "size": query.limit + 1,
        "track_total_hits": True,
        "_source": ["source"],
        "query": {"bool": {"must": _text(query), "filter": _filters(query, now)}},
        "aggs": {field: _facet_count(query, field) for field in FACETS},
        "sort": _SORTS[query.order](query),
        **_continuation(query),
    }
    if facet_filters := _facet_filters(query):
        # Filtered after the aggregations, so that a facet shows what its other values would find.
        body["post_filter"] = {"bool": {"filter": facet_filters}}
    return body


def _continuation(query: EventQuery) -> dict[str, Any]:
    """Where the query's cursor has come to. Raises InvalidInputError for one of another order.

    Dates and distances continue behind the last hit, at the same cost at any depth. Scores are counted on
    instead: they are floats that change with every event that is indexed, and nobody reads that far.
    """
    if not query.cursor:
        return {}
    sort = _SORTS[query.order](query)
    order, *position = decode_cursor(query.cursor, length=2 if query.order == "relevance" else 1 + len(sort))
    # A distance may have a fraction; dates are milliseconds.
    whole = position[1:] if query.order == "distance" else position
    if order != query.order or isinstance(position[0], str) or not all(isinstance(part, int) for part in whole):
        raise invalid_cursor()
    if query.order != "relevance":
        return {"search_after": position}
    if not 0 < position[0] <= RESULT_WINDOW - query.limit - 1:
        raise invalid_cursor()
    return {"from": position[0]}


def _next_cursor(query: EventQuery, page: Sequence[dict[str, Any]]) -> str | None:
    if query.order != "relevance":
        return encode_cursor([query.order, *page[-1]["sort"]])
    seen: int = _continuation(query).get("from", 0) + len(page)
    return encode_cursor([query.order, seen]) if seen + query.limit < RESULT_WINDOW else None


def _text(query: EventQuery) -> list[dict[str, Any]]:
    if not query.q:
        return [{"match_all": {}}]
    return [
        {
            "multi_match": {
                "query": query.q,
                "fields": ["title^2", "description", "tags", "place"],
                "fuzziness": "AUTO",
                "prefix_length": 1,
            }
        }
    ]


def _filters(query: EventQuery, now: datetime) -> list[dict[str, Any]]:
    period: dict[str, str] = {"gte": rfc3339(query.starts_from or now)}
    if query.starts_to is not None:
        period["lte"] = rfc3339(query.starts_to)
    filters: list[dict[str, Any]] = [{"term": {"status": "published"}}, {"range": {"date": period}}]
    if query.lat is not None:
        filters.append(
            {"geo_distance": {"distance": f"{query.radius_km}km", "location": {"lat": query.lat, "lon": query.lon}}}
        )
    if query.price_max is not None:
        filters.append({"range": {"price": {"lte": query.price_max}}})
    return filters


def _facet_filters(query: EventQuery, *, but: str = "") -> list[dict[str, Any]]:
    wanted = {"category": query.category, "tags": query.tag}
    return [{"terms": {field: values}} for field, values in wanted.items() if values and field != but]


def _facet_count(query: EventQuery, field: str) -> dict[str, Any]:
    """How many events have each value, among those that the other facets let through."""
    values = {"terms": {"field": field, "size": FACET_SIZE}}
    others = _facet_filters(query, but=field)
    # A filter that lets everything through is not free: two of them took the embedded engine a third of a search.
    return {"filter": {"bool": {"filter": others}}, "aggs": {"values": values}} if others else values


def _by_distance(query: EventQuery) -> list[dict[str, Any]]:
    point = {"lat": query.lat, "lon": query.lon}
    return [{"_geo_distance": {"location": point, "order": "asc", "unit": "km"}}, {"id": "asc"}]


_SORTS: dict[Sort, Callable[[EventQuery], list[dict[str, Any]]]] = {
    "relevance": lambda _: [{"_score": "desc"}, {"date": "asc"}, {"id": "asc"}],
    "date": lambda _: [{"date": "asc"}, {"id": "asc"}],
    "distance": _by_distance,
}


def document_of(event: dict[str, Any]) -> dict[str, Any]:
    """What is searched of an event, and all that is told of it."""
    place = event["location"]
    document: dict[str, Any] = {
        "id": event["id"],
        "title": event["title"],
        "description": event["description"],
        "place": place["name"],
        "date": event["starts_at"],
        "category": event["category"],
        "tags": event["tags"],
        "price": float(event["price"]["amount"]),
        "status": event["status"],
        "source": event,
    }
    if place["lat"] is not None:
        document["location"] = {"lat": place["lat"], "lon": place["lon"]}
    return document


def _found(hit: dict[str, Any], query: EventQuery) -> FoundEvent:
    event = FoundEvent.model_validate(hit["_source"]["source"])
    if query.order == "distance":
        event.distance_km = round(hit["sort"][0], 3)
    return event


def _facet(answer: dict[str, Any], field: str) -> list[Facet]:
    """Empty before there is an index, for then nothing is aggregated."""
    counted = answer.get("aggregations", {}).get(field, {})
    buckets = counted.get("values", counted).get("buckets", [])
    return [Facet(value=bucket["key"], count=bucket["doc_count"]) for bucket in buckets]


def _raise_for_failed(items: list[dict[str, Any]]) -> None:
    """A version conflict means that the index already knows more; overload is temporary; the rest is poison."""
    for item in items:
        status = item["status"]
        if status < 300 or status == 409:
            continue
        if status in (429, 502, 503, 504):
            raise DependencyUnavailableError("search engine")
        raise PoisonMessageError(f"event {item['_id']} cannot be indexed: {item['error']['reason']}")
