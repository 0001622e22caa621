"""Two streams of rows in the order of their keys, and where they are not the same."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

NOTHING = "nothing"

Key = tuple[int, ...]


@dataclass(frozen=True)
class Row:
    """`version` is that of the aggregate, where what is told of it can be behind."""

    key: Key
    fields: Mapping[str, Any]
    version: int = 0


@dataclass(frozen=True)
class Mismatch:
    """What has this key on either side; None where nothing has."""

    key: Key
    expected: Row | None
    found: Row | None

    def has_caught_up(self, version: int) -> bool:
        """Whether what was told up to this version has arrived, and only what is later is under way."""
        if self.expected is None or self.found is None:
            return False
        return version <= self.found.version < self.expected.version


@dataclass(frozen=True)
class Difference:
    """One field, or a whole row (`field` is empty), that is not as it should be."""

    aggregate: str
    place: str
    field: str
    expected: Any
    found: Any

    def __str__(self) -> str:
        what = f"{self.place}, {self.field}" if self.field else self.place
        return f"{self.aggregate}: {what}: expected {_shown(self.expected)}, found {_shown(self.found)}"


@dataclass
class Counter:
    """How many rows have been compared."""

    rows: int = field(default=0)


def mismatches(expected: Iterable[Row], found: Iterable[Row], counter: Counter) -> Iterator[Mismatch]:
    """Whatever is not on both sides and the same. Both come in the order of their keys, and neither is kept."""
    left, right = iter(expected), iter(found)
    wanted, present = next(left, None), next(right, None)
    while wanted is not None or present is not None:
        counter.rows += 1
        if present is None or (wanted is not None and wanted.key < present.key):
            assert wanted is not None
            yield Mismatch(wanted.key, wanted, None)
            wanted = next(left, None)
        elif wanted is None or present.key < wanted.key:
            yield Mismatch(present.key, None, present)
            present = next(right, None)
        else:
            if wanted.fields != present.fields:
                yield Mismatch(wanted.key, wanted, present)
            wanted, present = next(left, None), next(right, None)


def differences(mismatch: Mismatch, aggregate: str, place: str) -> Iterator[Difference]:
    """A line for each field; one for a row that is missing, or should not be there."""
    if mismatch.expected is None or mismatch.found is None:
        sides = [row.fields if row is not None else NOTHING for row in (mismatch.expected, mismatch.found)]
        yield Difference(aggregate, place, "", *sides)
        return
    expected, found = mismatch.expected.fields, mismatch.found.fields
    for name in sorted(expected.keys() | found.keys()):
        if expected.get(name, NOTHING) != found.get(name, NOTHING):
            yield Difference(aggregate, place, name, expected.get(name, NOTHING), found.get(name, NOTHING))


def _shown(value: Any) -> str:
    text = value if isinstance(value, str) and value == NOTHING else repr(value)
    return text if len(text) <= 300 else f"{text[:300]}…"
