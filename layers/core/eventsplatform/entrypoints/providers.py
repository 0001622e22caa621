"""The composition root: a service, connected to its engines, by its class.

Every service package has a `wiring.py` whose `FACTORIES` maps each of its service classes to a function
that builds it from the adapters. It is imported when the service is first asked for, so a function loads
only the clients that it uses.
"""

from __future__ import annotations

from collections.abc import Hashable
from functools import cache
from importlib import import_module
from typing import Any, TypeVar, cast

Service = TypeVar("Service")


def provide(service: type[Service]) -> Service:
    """The execution environment's instance of `service`, built on first use."""
    return cast(Service, _built(cast(Hashable, service)))


@cache
def _built(service: Hashable) -> Any:
    package = service.__module__.rpartition(".")[0]
    return import_module(f"{package}.wiring").FACTORIES[service]()
