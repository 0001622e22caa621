"""People's own accounts, and what everyone may see of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from pydantic import ValidationError

from eventsplatform.errors import FieldError, InvalidInputError, NotFoundError
from eventsplatform.identity import messages
from eventsplatform.identity.caller import Caller
from eventsplatform.identity.model import UserSummary
from eventsplatform.identity.people import AccountPatch, OwnAccount, Profile, PublicUser, public_part
from eventsplatform.merge_patch import merge_patch
from eventsplatform.messaging.model import Appendable, Work
from eventsplatform.outbound import NotPublicError
from eventsplatform.preconditions import require_match


@dataclass(frozen=True)
class KnownUser:
    """A version of an account as everyone sees it; `user` is None once the account is erased."""

    version: int
    user: PublicUser | None


class ProfileStore(Protocol):
    def find_account(self, user_id: int, *, for_update: bool = False) -> OwnAccount | None:
        """None for an account that is erased, or never was."""

    def find_public(self, user_id: int) -> KnownUser | None:
        """None for an account that never was."""

    def change_account(self, user_id: int, name: str, avatar_url: str | None, profile: Profile) -> OwnAccount:
        """The account with these values and its next version."""


class ProfileCache(Protocol):
    """Copies of what everyone may see, each of the latest version that it was given. It raises nothing."""

    def get(self, user_id: int) -> KnownUser | None: ...

    def put(self, user_id: int, known: KnownUser) -> None:
        """Keep it unless a later version is there; that of an erased account stays for as long as any."""


class Profiles:
    def __init__(self, work: Work[ProfileStore], cache: ProfileCache, refuse_private: Callable[[str], None]) -> None:
        """`refuse_private` raises NotPublicError for a URL that leads into a private network."""
        self._work = work
        self._cache = cache
        self._refuse_private = refuse_private

    def own(self, caller: Caller) -> OwnAccount:
        """The caller's account. Raises NotFoundError when it has been erased."""
        with self._work.statement() as store:
            return _present(store.find_account(caller.user_id), caller.user_id)

    def change(self, patch: AccountPatch, caller: Caller, *, if_match: str | None = None) -> OwnAccount:
        """The caller's account after the merge patch. One that changes nothing makes no new version.

        Raises PreconditionFailedError, and InvalidInputError when the merged profile breaks a rule.
        """
        self._check_urls(patch)

        def change(store: ProfileStore, outbox: Appendable) -> OwnAccount:
            account = _present(store.find_account(caller.user_id, for_update=True), caller.user_id)
            require_match(if_match, account.etag)
            name, avatar_url, profile = _merged(account, patch)
            if (name, avatar_url, profile) == (account.name, account.avatar_url, account.profile):
                return account
            changed = store.change_account(account.id, name, avatar_url, profile)
            outbox.append(messages.user_updated(_summary(changed), caller.user_id))
            return changed

        account = self._work.run(OwnAccount, change)
        self._cache.put(account.id, KnownUser(account.version, public_of(account)))
        return account

    def _check_urls(self, patch: AccountPatch) -> None:
        """Others' browsers follow these: they must not be sent where only machines of a network can go."""
        problems: list[FieldError] = []
        website = patch.profile.website if patch.profile else None
        urls = {"/avatar_url": patch.avatar_url, "/profile/website": website}
        for pointer, url in urls.items():
            try:
                if url is not None:
                    self._refuse_private(url)
            except NotPublicError as error:
                problems.append(FieldError(pointer, str(error)))
        if problems:
            raise InvalidInputError(problems)

    def public(self, user_id: int) -> PublicUser:
        """What everyone may see of a user. Raises NotFoundError, for erased accounts, too."""
        known = self._cache.get(user_id)
        if known is None:
            with self._work.statement() as store:
                known = store.find_public(user_id)
            if known is not None:
                self._cache.put(user_id, known)
        if known is None or known.user is None:
            raise no_such_user(user_id)
        return known.user


def public_of(account: OwnAccount) -> PublicUser:
    profile = public_part(account.profile)
    return PublicUser(id=account.id, name=account.name, avatar_url=account.avatar_url, profile=profile)


def _summary(account: OwnAccount) -> UserSummary:
    suspended = account.status == "suspended"
    return UserSummary(id=account.id, name=account.name, version=account.version, suspended=suspended)


def no_such_user(user_id: int) -> NotFoundError:
    return NotFoundError(f"There is no user {user_id}.")


def _merged(account: OwnAccount, patch: AccountPatch) -> tuple[str, str | None, Profile]:
    present = {
        "name": account.name,
        "avatar_url": account.avatar_url,
        "profile": account.profile.model_dump(exclude_defaults=True),
    }
    merged = merge_patch(present, patch.as_document())
    try:
        profile = Profile.model_validate(merged.get("profile", {}))
    except ValidationError as error:
        # Each field was valid on its own: what can break a rule only once merged is a bound on the whole.
        problems = [FieldError("/profile/" + "/".join(map(str, e["loc"])), e["msg"]) for e in error.errors()]
        raise InvalidInputError(problems) from error
    return merged["name"], merged.get("avatar_url"), profile


def _present(account: OwnAccount | None, user_id: int) -> OwnAccount:
    if account is None:
        raise no_such_user(user_id)
    return account
