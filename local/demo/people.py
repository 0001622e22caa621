"""Who the users of the demo data are: names as people have them where they live, and what they like."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

from faker import Faker
from faker.config import AVAILABLE_LOCALES

from local.demo.accounts import email_of
from local.demo.cities import City

# Where Faker's full names are two words in their usual order, and its parts would be joined the wrong way round.
_FAMILY_NAME_FIRST = frozenset({"hu_HU", "ja_JP", "ko_KR", "zh_CN", "zh_TW"})


@dataclass(frozen=True)
class Person:
    """A user. `favourites` are two or three categories."""

    email: str
    name: str
    home: City
    favourites: tuple[str, ...]


def meet_people(
    rng: random.Random, count: int, *, event_cities: Sequence[City], named_home: City, categories: Sequence[str]
) -> list[Person]:
    """`count` people, most of them where the most events are; the two with named accounts live in `named_home`."""
    events_in = Counter(event_cities)
    weights = [events**3 for events in events_in.values()]
    homes = [named_home, named_home, *rng.choices(list(events_in), weights, k=max(0, count - 2))][:count]
    return [
        Person(
            email=email_of(number),
            name=_name(rng, home.country_code),
            home=home,
            favourites=("tech", "music") if number == 2 else tuple(rng.sample(categories, rng.choice((2, 2, 3)))),
        )
        for number, home in enumerate(homes, start=1)
    ]


def _name(rng: random.Random, country_code: str) -> str:
    locale = rng.choice(_locales(country_code))
    names = _names(locale)
    names.seed_instance(rng.getrandbits(64))
    return names.name() if locale in _FAMILY_NAME_FIRST else f"{names.first_name()} {names.last_name()}"


@cache
def _locales(country_code: str) -> tuple[str, ...]:
    return tuple(sorted(name for name in AVAILABLE_LOCALES if name.endswith(f"_{country_code}"))) or ("en_US",)


@cache
def _names(locale: str) -> Faker:
    return Faker(locale, providers=["faker.providers.person"])
