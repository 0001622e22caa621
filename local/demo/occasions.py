"""What happens in the demo data: events in words, with times, places, sizes and prices that fit together."""

from __future__ import annotations

import random
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from functools import cache
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from local.demo.cities import City
from local.demo.money import price_in

# How often each category is chosen; all of the catalog's are here.
CATEGORIES = {
    "tech": 14, "music": 14, "community": 13, "arts": 11, "sports": 11, "food": 11, "business": 9, "education": 9,
    "health": 8,
}  # fmt: skip

# Where people speak a language of the vocabulary, the share of events announced in it.
_LOCAL_LANGUAGE_SHARE = 0.45
_HORIZON_DAYS = 180


@dataclass(frozen=True)
class Occasion:
    """An event before anyone organises or attends it. `body` is what `POST /v1/events` takes."""

    city: City
    body: dict[str, Any]

    @property
    def category(self) -> str:
        category: str = self.body["category"]
        return category


def invent_occasion(rng: random.Random, city: City, now: datetime) -> Occasion:
    """An event in `city` that starts between one day and half a year after `now`."""
    words = _vocabulary()
    category = rng.choices(list(CATEGORIES), list(CATEGORIES.values()))[0]
    language = _local_language(rng, city)
    form = words[category]["formats"][0] if language else rng.choice(words[category]["formats"])
    starts_at = _start(rng, ZoneInfo(city.timezone), now, form["when"], form["hours"])
    if language:
        title, description = language[category]
        title, tags = title.format(city=city.native_name), [category, language["tag"]]
    else:
        title, description, tags = _in_english(rng, category, form["title"], city, starts_at.year)
    free = rng.random() * 10 < form["free"]
    return Occasion(
        city,
        {
            "title": title,
            "description": description,
            "starts_at": starts_at.isoformat(),
            "ends_at": _later(starts_at, form["hours"]).isoformat(),
            "timezone": city.timezone,
            "location": {
                "name": f"{rng.choice(words['venues'][category])}, {city.label}",
                "lat": city.lat,
                "lon": city.lon,
            },
            "capacity": rng.choice(form["capacity"]),
            "category": category,
            "tags": [*tags, "free"] if free else tags,
            "price": price_in(city.currency, 0 if free else rng.uniform(*form["euros"])),
        },
    )


def choose_cities(rng: random.Random, cities: Sequence[City], count: int) -> list[City]:
    """Where `count` events take place: everywhere once if there are enough, the rest by size."""
    everywhere = list(cities) if count >= len(cities) else []
    weights = [city.population**0.5 for city in cities]
    return everywhere + rng.choices(cities, weights, k=count - len(everywhere))


def _local_language(rng: random.Random, city: City) -> dict[str, Any] | None:
    """The vocabulary of the place's own language for some of its events, if there is one."""
    for language in _vocabulary()["languages"].values():
        if city.country_code in language["countries"]:
            return language if rng.random() < _LOCAL_LANGUAGE_SHARE else None
    return None


def _in_english(rng: random.Random, category: str, title: str, city: City, year: int) -> tuple[str, str, list[str]]:
    """Title, description and tags."""
    words = _vocabulary()[category]
    topic, _, more_tags = rng.choice(words["topics"]).partition(" | ")
    facts = {"topic": topic, "city": city.name, "year": year, "number": rng.randint(2, 60)}
    opening = rng.choice(words["openings"]).format(**facts)
    details = rng.sample(words["details"], rng.choice((1, 2)))
    return title.format(**facts), f"{opening}\n\n{' '.join(details)}", [topic.lower(), *more_tags.split(", ")]


def _start(rng: random.Random, zone: ZoneInfo, now: datetime, when: str, hours: float) -> datetime:
    """An evening from Monday to Friday or a time at the weekend, on the clocks of the place; sooner is likelier."""
    weekend = when == "weekend"
    if not weekend:
        at = rng.choice((time(18), time(18, 30), time(19), time(19, 30), time(20)))
    elif hours >= 5:
        at = rng.choice((time(9), time(9, 30), time(10)))
    else:
        at = time(rng.randint(10, 17))
    # From the day after tomorrow, so that it is a full day ahead; a matching day follows within five.
    day = now.astimezone(zone).date() + timedelta(days=2 + int((_HORIZON_DAYS - 8) * rng.random() ** 1.3))
    while (day.weekday() >= 5) != weekend:
        day += timedelta(days=1)
    return datetime.combine(day, at, zone)


def _later(moment: datetime, hours: float) -> datetime:
    """So many hours later on the same clocks, which may have been put forward or back in between."""
    return (moment.astimezone(UTC) + timedelta(hours=hours)).astimezone(moment.tzinfo)


@cache
def _vocabulary() -> dict[str, Any]:
    return tomllib.loads((Path(__file__).parent / "vocabulary.toml").read_text(encoding="utf-8"))
