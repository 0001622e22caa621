"""Which route serves a method and path, by API Gateway's rules."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

from local.application import RestRoute

_ANY = "ANY"
_ALL_METHODS = ("DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT")


@dataclass(eq=False)
class _Node:
    """One resource in the tree of paths."""

    path: str = ""
    children: dict[str, _Node] = field(default_factory=dict)
    parameter: tuple[str, _Node] | None = None
    proxy: tuple[str, _Node] | None = None
    methods: dict[str, RestRoute] = field(default_factory=dict)


@dataclass(frozen=True)
class Match:
    """`route` is None when the path is one of the API's but the method is not.

    `parameters` are the decoded path parameters, None without any.
    """

    resource: str
    route: RestRoute | None
    parameters: dict[str, str] | None
    methods: tuple[str, ...]


class RouteTable:
    """Routes as a tree of path segments, built once.

    A literal segment wins over `{parameter}`, which wins over `{proxy+}`, and among the methods of a
    resource the named one over ANY. A trailing slash makes no difference.
    https://docs.aws.amazon.com/apigateway/latest/developerguide/api-gateway-method-settings-method-request.html
    """

    def __init__(self, routes: Iterable[RestRoute]) -> None:
        self._root = _Node("/")
        for route in routes:
            self._add(route)

    def match(self, method: str, path: str) -> Match | None:
        """The match for a still percent-encoded path, or None when the API has no such path."""
        found = _find(self._root, [segment for segment in path.split("/") if segment], 0)
        if found is None:
            return None
        node, parameters = found
        route = node.methods.get(method) or node.methods.get(_ANY)
        methods = _ALL_METHODS if _ANY in node.methods else tuple(sorted({*node.methods, "OPTIONS"}))
        return Match(node.path, route, dict(reversed(parameters)) or None, methods)

    def _add(self, route: RestRoute) -> None:
        node = self._root
        for segment in route.path.split("/"):
            if not segment:
                continue
            path = f"{node.path.rstrip('/')}/{segment}"
            if segment.startswith("{") and segment.endswith("+}"):
                node.proxy = node.proxy or (segment[1:-2], _Node(path))
                node = node.proxy[1]
            elif segment.startswith("{"):
                node.parameter = node.parameter or (segment[1:-1], _Node(path))
                node = node.parameter[1]
            else:
                node = node.children.setdefault(segment, _Node(path))
        node.methods[route.method] = route


def _find(node: _Node, segments: list[str], index: int) -> tuple[_Node, list[tuple[str, Any]]] | None:
    if index == len(segments):
        return (node, []) if node.methods else None
    segment = segments[index]
    child = node.children.get(segment) or node.children.get(unquote(segment))
    if child is not None and (found := _find(child, segments, index + 1)):
        return found
    if node.parameter is not None:
        name, child = node.parameter
        if found := _find(child, segments, index + 1):
            found[1].append((name, unquote(segment)))
            return found
    if node.proxy is not None and node.proxy[1].methods:
        name, child = node.proxy
        return child, [(name, unquote("/".join(segments[index:])))]
    return None
