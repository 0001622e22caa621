"""All of the demo data before any of it is stored: the same for the same `now` and scale, in every run."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import accumulate
from typing import Any

from local.demo.cities import City, demo_cities
from local.demo.occasions import CATEGORIES, Occasion, choose_cities, invent_occasion
from local.demo.people import Person, meet_people

USERS, EVENTS, REGISTRATIONS = 500, 2_400, 11_000
NAMED_HOME = "Berlin"

_SEED = 20_240_229
_ORGANIZERS_SHARE = 0.18
_ATTENDEE_REGISTRATIONS = 12
_LEAST_CAPACITY = 8
_FULL_SHARE = 0.12
_AT_HOME, _IN_THE_COUNTRY = 120.0, 4.0
_FAVOURITE = 6.0


@dataclass(frozen=True)
class PlannedEvent:
    """`body` is what `POST /v1/events` takes; `organizer` and `attendees`, in their order, index the people."""

    city: City
    body: dict[str, Any]
    organizer: int
    attendees: tuple[int, ...]


@dataclass(frozen=True)
class Plan:
    people: tuple[Person, ...]
    events: tuple[PlannedEvent, ...]

    @property
    def registrations(self) -> int:
        return sum(len(event.attendees) for event in self.events)


def draw_up(now: datetime, scale: float = 1.0) -> Plan:
    """Plan `scale` times the full number of users, events and registrations, starting after `now`."""
    rng = random.Random(_SEED)  # noqa: S311  repeatable, not secret
    cities = demo_cities()
    home = next(city for city in cities if city.name == NAMED_HOME)
    event_cities = choose_cities(rng, cities, round(EVENTS * scale))
    occasions = [invent_occasion(rng, city, now) for city in event_cities]
    people = meet_people(
        rng, max(2, round(USERS * scale)), event_cities=event_cities, named_home=home, categories=list(CATEGORIES)
    )
    organizers = _appoint_organizers(rng, occasions, people)
    appetites = _appetites(rng, len(people), round(REGISTRATIONS * scale))
    attendees = _invite(rng, occasions, people, organizers, appetites)
    capacities = _capacities(rng, occasions, organizers, attendees)
    return Plan(
        tuple(people),
        tuple(
            PlannedEvent(occasion.city, {**occasion.body, "capacity": capacity}, organizer, tuple(going))
            for occasion, capacity, organizer, going in zip(occasions, capacities, organizers, attendees, strict=True)
        ),
    )


def _appoint_organizers(rng: random.Random, occasions: Sequence[Occasion], people: Sequence[Person]) -> list[int]:
    """Someone from the place for each event, or else from the country, or else from anywhere. Never the attendee."""
    of_city: dict[City, list[int]] = defaultdict(list)
    of_country: dict[str, list[int]] = defaultdict(list)
    candidates = [index for index in range(max(1, round(len(people) * _ORGANIZERS_SHARE))) if index != 1]
    for index in candidates:
        of_city[people[index].home].append(index)
        of_country[people[index].home.country_code].append(index)
    return [
        rng.choice(of_city.get(occasion.city) or of_country.get(occasion.city.country_code) or candidates)
        for occasion in occasions
    ]


def _appetites(rng: random.Random, people: int, total: int) -> list[int]:
    """How many events each person goes to: about `total` together, most a few, some very many."""
    raw = [rng.lognormvariate(0, 0.6) for _ in range(people)]
    appetites = [max(1, round(share * total / sum(raw))) for share in raw]
    appetites[1] = _ATTENDEE_REGISTRATIONS
    return appetites


def _invite(
    rng: random.Random,
    occasions: Sequence[Occasion],
    people: Sequence[Person],
    organizers: Sequence[int],
    appetites: Sequence[int],
) -> list[list[int]]:
    """Who goes to each event, in the order of registering.

    People prefer what is near and what they like, and everyone prefers what is popular (a power law), so that there
    is something for a recommender to find.
    """
    ranks = list(range(1, len(occasions) + 1))
    rng.shuffle(ranks)
    popularity = [(rank + 5) ** -0.6 for rank in ranks]
    in_country: dict[str, list[int]] = defaultdict(list)
    for at, occasion in enumerate(occasions):
        in_country[occasion.city.country_code].append(at)

    going: list[list[int]] = [[] for _ in occasions]
    for index, person in enumerate(people):
        weights = [
            0.0 if organizer == index else popular * (_FAVOURITE if occasion.category in person.favourites else 1.0)
            for popular, occasion, organizer in zip(popularity, occasions, organizers, strict=True)
        ]
        for at in in_country[person.home.country_code]:
            weights[at] *= _AT_HOME if occasions[at].city == person.home else _IN_THE_COUNTRY
        for at in _draw(rng, weights, appetites[index]):
            going[at].append(index)
    for attendees in going:
        rng.shuffle(attendees)
    return going


def _draw(rng: random.Random, weights: Sequence[float], count: int) -> list[int]:
    """`count` different indexes, or as many as have any weight, likelier with more of it."""
    cumulative = list(accumulate(weights))
    drawn: dict[int, None] = {}
    while len(drawn) < min(count, len(weights) - weights.count(0.0)):
        drawn.update(dict.fromkeys(rng.choices(range(len(weights)), cum_weights=cumulative, k=count - len(drawn))))
    return list(drawn)


def _capacities(
    rng: random.Random, occasions: Sequence[Occasion], organizers: Sequence[int], attendees: Sequence[Sequence[int]]
) -> list[int]:
    """The sizes, with some sought-after events too small for all who want in; among them the organiser's best."""
    organized = [at for at, organizer in enumerate(organizers) if organizer == 0]
    best = max(organized, key=lambda at: len(attendees[at]), default=None)
    return [
        max(_LEAST_CAPACITY, int(len(going) * rng.uniform(0.55, 0.9)))
        if len(going) > _LEAST_CAPACITY and (at == best or rng.random() < _FULL_SHARE)
        else occasion.body["capacity"]
        for at, (occasion, going) in enumerate(zip(occasions, attendees, strict=True))
    ]
