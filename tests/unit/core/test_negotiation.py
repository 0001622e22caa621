"""Which form of an answer a client is given."""

from __future__ import annotations

import pytest

from eventsplatform.entrypoints.negotiation import is_preferred_binary, negotiate
from eventsplatform.errors import NotAcceptableError

OFFERED = ["application/json", "image/svg+xml", "image/png"]


@pytest.mark.parametrize(
    ("accept", "chosen"),
    [
        ("", "application/json"),
        ("*/*", "application/json"),
        ("image/*", "image/svg+xml"),
        ("image/png", "image/png"),
        ("IMAGE/PNG", "image/png"),
        ("image/png, application/json", "application/json"),
        ("image/png;q=1.0, application/json;q=0.9", "image/png"),
        ("application/json;q=0.1, image/svg+xml ; q=0.2", "image/svg+xml"),
        # The closest range says how much a type is liked, whatever a wider one says.
        ("*/*, application/json;q=0, image/svg+xml;q=0.1", "image/png"),
        ("text/html, application/xhtml+xml, application/xml;q=0.9, image/webp, */*;q=0.8", "application/json"),
        # What is no range counts for nothing.
        ("nonsense, image/png", "image/png"),
        ("nonsense", "application/json"),
        ("image/png;q=2", "image/png"),
        ("image/png;version=1;q=0.5, image/svg+xml;q=0.4", "image/png"),
    ],
)
def test_the_form_that_a_client_likes_best_is_chosen(accept: str, chosen: str) -> None:
    assert negotiate(accept, OFFERED) == chosen


@pytest.mark.parametrize("accept", ["text/csv", "image/png;q=0", "application/json;q=0, image/*;q=0.000", "text/*"])
def test_what_there_is_no_form_for_is_refused_with_those_there_are(accept: str) -> None:
    with pytest.raises(NotAcceptableError, match=r"there is application/json, image/svg\+xml, image/png"):
        negotiate(accept, OFFERED)


@pytest.mark.parametrize(
    ("accept", "chosen"),
    [
        ("image/png", "image/png"),
        ("image/png, image/svg+xml;q=0.9", "image/png"),
        ("image/*", "image/svg+xml"),
        ("image/webp, image/png, */*;q=0.1", "application/json"),
    ],
)
def test_what_is_binary_is_chosen_only_where_it_arrives_as_bytes(accept: str, chosen: str) -> None:
    assert negotiate(accept, OFFERED, binary=["image/png"]) == chosen


@pytest.mark.parametrize(
    ("accept", "first"),
    [("image/png", True), ("Image/PNG;q=0.9, */*", True), ("image/svg+xml, image/png", False), ("*/*", False)],
)
def test_bytes_are_for_clients_that_name_them_first(accept: str, first: bool) -> None:
    assert is_preferred_binary(accept, "image/png") is first
