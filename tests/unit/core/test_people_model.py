"""What people may write about themselves, and what nobody may write about others."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from eventsplatform.identity.administration import audit_records, changed_access
from eventsplatform.identity.people import (
    PERMISSIONS,
    PREFERENCES_BYTES,
    AccessChange,
    AccountPatch,
    AdministeredUser,
    Profile,
    PublicProfile,
    public_part,
)

USER = AdministeredUser.model_validate(
    {
        "id": 7,
        "email": "ada@example.org",
        "email_verified": True,
        "name": "Ada",
        "role": "user",
        "permissions": ["events:read", "events:create", "events:update", "events:delete"],
        "status": "active",
        "suspension_reason": None,
        "version": 3,
        "created_at": "2026-05-01T10:00:00Z",
        "updated_at": "2026-05-01T10:00:00Z",
    }
)


@pytest.mark.parametrize(
    "field", ["role", "permissions", "status", "email", "id", "version", "verified_at", "nickname"]
)
def test_nobody_writes_what_is_not_theirs_to_change(field: str) -> None:
    with pytest.raises(ValidationError) as refused:
        AccountPatch.model_validate({field: "admin"})

    assert refused.value.errors()[0]["type"] == "extra_forbidden"


@pytest.mark.parametrize(
    "patch",
    [
        {"name": None},
        {"name": ""},
        {"name": "x" * 256},
        {"avatar_url": "http://example.org/me.png"},
        {"avatar_url": "javascript:alert(1)"},
        {"avatar_url": "https://user@example.org/me.png"},
        {"avatar_url": "https://127.0.0.1/me.png"},
        {"avatar_url": "https://metadata.internal/me.png"},
        {"profile": {"nickname": "A"}},
        {"profile": {"bio": "x" * 2_001}},
        {"profile": {"country": "Germany"}},
        {"profile": {"timezone": "Berlin"}},
        {"profile": {"language": "deutsch, bitte"}},
        {"profile": {"interests": ["x"] * 21}},
        {"profile": {"interests": [""]}},
        {"profile": {"website": "ftp://example.org"}},
        {"profile": {"event_reminders": "no"}},
        {"profile": {"preferences": []}},
        {"profile": {"preferences": {"text": "a\0b"}}},
        {"profile": {"preferences": {"a\ud800": 1}}},
        {"profile": {"preferences": {"number": float("nan")}}},
        {"profile": {"preferences": {"number": 2**53}}},
        {"profile": {"preferences": {"text": "x" * PREFERENCES_BYTES}}},
    ],
)
def test_a_patch_that_breaks_a_rule_is_refused(patch: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        AccountPatch.model_validate(patch)


def test_a_patch_tells_null_from_absent() -> None:
    patch = AccountPatch.model_validate({"avatar_url": None, "profile": {"bio": None, "preferences": {"a": None}}})

    assert patch.as_document() == {"avatar_url": None, "profile": {"bio": None, "preferences": {"a": None}}}
    assert AccountPatch().as_document() == {}


def test_a_patch_says_in_its_schema_that_a_name_is_never_null_and_may_be_absent() -> None:
    schema = AccountPatch.model_json_schema()

    assert schema["properties"]["name"]["type"] == "string"
    assert "default" not in schema["properties"]["name"]
    assert "required" not in schema


def test_interests_are_kept_once_in_lower_case() -> None:
    assert Profile.model_validate({"interests": ["Jazz", "jazz ", "AI"]}).interests == ["jazz", "ai"]


def test_everyone_sees_what_is_public_and_nothing_else() -> None:
    profile = Profile.model_validate(
        {
            "bio": "Hello",
            "city": "Berlin",
            "country": "DE",
            "interests": ["jazz"],
            "website": "https://example.org",
            "timezone": "Europe/Berlin",
            "language": "de",
            "preferences": {"theme": "dark"},
        }
    )

    assert public_part(profile).model_dump() == {
        "bio": "Hello",
        "city": "Berlin",
        "country": "DE",
        "interests": ["jazz"],
        "website": "https://example.org",
    }
    private = {"timezone", "language", "event_reminders", "preferences"}
    assert set(Profile.model_fields) - set(PublicProfile.model_fields) == private


@pytest.mark.parametrize(
    "change",
    [
        {"role": "owner"},
        {"role": None},
        {"permissions": ["everything"]},
        {"permissions": None},
        {"status": "erased"},
        {"status": "suspended", "reason": ""},
        {"status": "active", "reason": "because"},
        {"reason": "because"},
        {"name": "Eve"},
        {"email": "eve@example.org"},
    ],
)
def test_a_change_of_access_that_breaks_a_rule_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        AccessChange.model_validate(change)


def test_a_new_role_brings_its_permissions() -> None:
    after = changed_access(USER, AccessChange(role="admin"))

    assert (after.role, after.permissions) == ("admin", list(PERMISSIONS))
    assert after.administers
    assert not USER.administers


def test_permissions_that_are_given_go_before_those_of_the_role() -> None:
    after = changed_access(USER, AccessChange(role="moderator", permissions=["users:manage", "events:read"]))

    assert (after.role, after.permissions) == ("moderator", ["events:read", "users:manage"])
    assert not after.administers


def test_the_same_role_leaves_permissions_as_they_are() -> None:
    reduced = USER.model_copy(update={"permissions": ["events:read"]})

    assert changed_access(reduced, AccessChange(role="user")) == reduced


def test_what_is_recorded_is_what_was_and_what_is() -> None:
    after = changed_access(
        USER, AccessChange(permissions=["events:read"], status="suspended", reason="Sold what was not theirs")
    )

    access, suspension = audit_records(USER, after, actor_id=1)

    assert (access.action, access.subject_id, access.actor_id) == ("user.access_changed", 7, 1)
    assert access.details["permissions"] == {"before": USER.permissions, "after": ["events:read"]}
    assert suspension.action == "user.suspended"
    assert suspension.details == {
        "status": {"before": "active", "after": "suspended"},
        "suspension_reason": {"before": None, "after": "Sold what was not theirs"},
    }
    assert "ada@example.org" not in str([access, suspension])
