"""Own accounts and public profiles, on Postgres and Redis."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from eventsplatform.errors import InvalidInputError, NotFoundError, PreconditionFailedError
from eventsplatform.identity.people import AccountPatch, PublicProfile, PublicUser
from eventsplatform.identity.profile_cache import RedisProfiles
from eventsplatform.identity.profiles import KnownUser
from local.engines import Endpoints
from tests.support.callers import caller
from tests.support.engines import RunningEngines
from tests.support.killing import engine_killed
from tests.support.people import People, add_user, people, rows


@pytest.fixture
def running(migrated_database: str) -> Iterator[People]:
    with people(migrated_database) as built:
        yield built


@pytest.fixture
def ada(migrated_database: str) -> int:
    return add_user(migrated_database)


def patch(**fields: Any) -> AccountPatch:
    return AccountPatch.model_validate(fields)


def told(url: str, user_id: int) -> list[dict[str, Any]]:
    return rows(
        url,
        "SELECT type, version, payload FROM messaging.outbox WHERE aggregate_type = 'user' AND aggregate_id = %s",
        user_id,
    )


def test_a_patch_changes_what_it_names_and_nothing_else(running: People, ada: int) -> None:
    running.profiles.change(patch(profile={"bio": "Hello", "preferences": {"theme": {"dark": True}}}), caller(ada))

    account = running.profiles.change(
        patch(
            name="Ada Byron",
            avatar_url="https://example.org/ada.png",
            profile={"city": "London", "preferences": {"theme": {"dark": None, "size": 2}, "beta": True}},
        ),
        caller(ada),
    )

    assert account == running.profiles.own(caller(ada))
    assert (account.name, account.avatar_url) == ("Ada Byron", "https://example.org/ada.png")
    assert account.profile.model_dump(exclude_defaults=True) == {
        "bio": "Hello",
        "city": "London",
        "preferences": {"theme": {"size": 2}, "beta": True},
    }
    assert account.version == 3


def test_null_takes_away(running: People, ada: int) -> None:
    running.profiles.change(
        patch(avatar_url="https://example.org/a.png", profile={"bio": "Hello", "interests": ["jazz"]}), caller(ada)
    )

    account = running.profiles.change(patch(avatar_url=None, profile={"bio": None}), caller(ada))
    assert (account.avatar_url, account.profile.bio, account.profile.interests) == (None, None, ["jazz"])

    account = running.profiles.change(patch(profile=None), caller(ada))
    assert account.profile.model_dump(exclude_defaults=True) == {}


def test_a_patch_that_changes_nothing_makes_no_version_and_no_message(
    running: People, migrated_database: str, ada: int
) -> None:
    changed = running.profiles.change(patch(name="Ada Byron"), caller(ada))

    assert running.profiles.change(patch(name="Ada Byron", profile={"bio": None}), caller(ada)) == changed
    assert running.profiles.change(patch(), caller(ada)) == changed
    assert [each["version"] for each in told(migrated_database, ada)] == [2]


def test_others_are_told_the_name_and_nothing_more(running: People, migrated_database: str, ada: int) -> None:
    running.profiles.change(patch(name="Ada Byron", profile={"bio": "Hello"}), caller(ada))

    (message,) = told(migrated_database, ada)
    assert message["type"] == "users.updated"
    assert message["payload"] == {"id": ada, "name": "Ada Byron", "version": 2, "suspended": False}


def test_a_write_on_an_older_version_is_refused(running: People, ada: int) -> None:
    read = running.profiles.own(caller(ada))
    running.profiles.change(patch(name="First"), caller(ada), if_match=read.etag)

    with pytest.raises(PreconditionFailedError):
        running.profiles.change(patch(name="Second"), caller(ada), if_match=read.etag)

    assert running.profiles.own(caller(ada)).name == "First"


def test_preferences_are_bounded_as_a_whole(running: People, ada: int) -> None:
    """Each patch is within the bound; what they add up to is not."""
    running.profiles.change(patch(profile={"preferences": {"a": "x" * 3_000}}), caller(ada))

    with pytest.raises(InvalidInputError) as refused:
        running.profiles.change(patch(profile={"preferences": {"b": "x" * 3_000}}), caller(ada))

    assert refused.value.errors[0].pointer == "/profile/preferences"
    assert set(running.profiles.own(caller(ada)).profile.preferences) == {"a"}


@pytest.mark.parametrize(
    ("fields", "pointer"),
    [
        ({"avatar_url": "https://a.private.example.org/me.png"}, "/avatar_url"),
        ({"profile": {"website": "https://b.private.example.org"}}, "/profile/website"),
    ],
)
def test_a_url_into_a_private_network_is_refused(running: People, ada: int, fields: Any, pointer: str) -> None:
    with pytest.raises(InvalidInputError) as refused:
        running.profiles.change(patch(**fields), caller(ada))

    assert refused.value.errors[0].pointer == pointer


def test_everyone_sees_the_public_part(running: People, ada: int) -> None:
    running.profiles.change(
        patch(profile={"bio": "Hello", "timezone": "Europe/London", "preferences": {"secret": 1}}), caller(ada)
    )

    shown = running.profiles.public(ada)

    assert set(PublicUser.model_fields) == {"id", "name", "avatar_url", "profile"}
    assert shown == PublicUser(id=ada, name="Ada Lovelace", avatar_url=None, profile=PublicProfile(bio="Hello"))


def test_a_profile_is_written_through(running: People, ada: int) -> None:
    running.profiles.public(ada)
    running.profiles.change(patch(name="Ada Byron"), caller(ada))

    known = running.cache.get(ada)

    assert known is not None
    assert known.user == running.profiles.public(ada)
    assert known.user is not None
    assert known.user.name == "Ada Byron"


@pytest.mark.parametrize("status", ["erased", None])
def test_who_is_not_there_is_not_found(running: People, migrated_database: str, status: str | None) -> None:
    nobody = add_user(migrated_database, status=status) if status else 2**62

    with pytest.raises(NotFoundError):
        running.profiles.public(nobody)
    with pytest.raises(NotFoundError):
        running.profiles.own(caller(nobody))
    with pytest.raises(NotFoundError):
        running.profiles.change(patch(name="Eve"), caller(nobody))


def known(version: int, name: str = "Ada") -> KnownUser:
    return KnownUser(version, PublicUser(id=1, name=name, avatar_url=None, profile=PublicProfile()))


@pytest.mark.usefixtures("adapters")
def test_the_cache_keeps_the_latest_version(ada: int) -> None:
    cache = RedisProfiles()

    cache.put(ada, known(3, "Later"))
    cache.put(ada, known(2, "Earlier"))

    assert cache.get(ada) == known(3, "Later")


@pytest.mark.usefixtures("adapters")
def test_who_read_before_an_erasure_cannot_put_the_person_back(ada: int) -> None:
    cache = RedisProfiles()

    cache.put(ada, KnownUser(3, None))
    cache.put(ada, known(2))

    assert cache.get(ada) == KnownUser(3, None)


def test_without_redis_profiles_come_from_the_database(
    adapters: Endpoints, engines: RunningEngines, migrated_database: str, ada: int
) -> None:
    assert adapters.redis
    with people(migrated_database) as running, engine_killed(engines, "redis"):
        running.profiles._cache = RedisProfiles()

        assert running.profiles.change(patch(name="Ada Byron"), caller(ada)).name == "Ada Byron"
        assert running.profiles.public(ada).name == "Ada Byron"
