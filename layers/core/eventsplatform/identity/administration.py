"""Who may do what: finding accounts, changing roles and permissions, suspending and reinstating."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from pydantic import BaseModel

from eventsplatform.errors import ConflictError, ForbiddenError, NotFoundError
from eventsplatform.identity import messages
from eventsplatform.identity.caller import Caller
from eventsplatform.identity.model import ROLE_PERMISSIONS, UserSummary
from eventsplatform.identity.people import AccessChange, AdministeredUser, UserQuery
from eventsplatform.identity.profiles import no_such_user
from eventsplatform.messaging.model import Appendable, AuditRecord, Work
from eventsplatform.pagination import Page, decode_cursor, encode_cursor, invalid_cursor
from eventsplatform.preconditions import require_match


class AdministrationStore(Protocol):
    def search(self, query: UserQuery, after_id: int) -> list[AdministeredUser]:
        """One account more than the query's limit, by id."""

    def find_user(self, user_id: int, *, for_update: bool = False) -> AdministeredUser | None:
        """None for an account that never was."""

    def find_user_by_email(self, email: str) -> AdministeredUser | None: ...

    def lock_administrators(self) -> set[int]:
        """The accounts that administer others, which stay so until the transaction ends."""

    def set_access(self, user: AdministeredUser) -> tuple[AdministeredUser, int]:
        """The account with this role, these permissions and this status; and its next generation."""

    def end_sessions(self, user_id: int, reason: str) -> None: ...


class Revocations(Protocol):
    """The gate's copies of what is revoked: called after the commit, raises nothing."""

    def end_user(self, user_id: int, generation: int) -> None: ...


class ChangedAccess(BaseModel):
    """The account after a change; `generation` is the new one when access tokens of before are refused."""

    user: AdministeredUser
    generation: int | None = None


class UserAdministration:
    def __init__(self, work: Work[AdministrationStore], revocations: Revocations) -> None:
        self._work = work
        self._revocations = revocations

    def search(self, query: UserQuery) -> Page[AdministeredUser]:
        """Accounts by id. Raises InvalidInputError for a cursor of another list."""
        after_id = 0
        if query.cursor:
            (after_id,) = decode_cursor(query.cursor, length=1)
            if not isinstance(after_id, int):
                raise invalid_cursor()
        with self._work.statement() as store:
            found = store.search(query, after_id)
        page = found[: query.limit]
        more = len(found) > query.limit
        return Page[AdministeredUser](items=page, next_cursor=encode_cursor([page[-1].id]) if more else None)

    def change(
        self, user_id: int, wanted: AccessChange, caller: Caller, *, if_match: str | None = None
    ) -> AdministeredUser:
        """Give or take access, from the account's next request on.

        Raises NotFoundError, PreconditionFailedError, ForbiddenError for the caller's own account, and
        ConflictError when nobody would be left to administer accounts.
        """
        if user_id == caller.user_id:
            raise ForbiddenError("You cannot change your own access; ask another administrator.")

        def change(store: AdministrationStore, outbox: Appendable) -> ChangedAccess:
            # Before the account itself, and in one order for everyone: two who take each other's place would
            # otherwise both find the other in it.
            administrators = store.lock_administrators()
            before = store.find_user(user_id, for_update=True)
            if before is None or before.status == "erased":
                raise no_such_user(user_id)
            require_match(if_match, before.etag)
            return _change_access(store, outbox, before, wanted, administrators, caller.user_id)

        return self._carry_out(change)

    def appoint(self, email: str) -> AdministeredUser:
        """Make an account an administrator, on the word of who operates the platform. Raises NotFoundError."""

        def change(store: AdministrationStore, outbox: Appendable) -> ChangedAccess:
            administrators = store.lock_administrators()
            known = store.find_user_by_email(email)
            before = store.find_user(known.id, for_update=True) if known else None
            if before is None or before.status == "erased":
                raise NotFoundError("No account has this e-mail address.")
            wanted = AccessChange(role="admin", status="active")
            return _change_access(store, outbox, before, wanted, administrators, actor_id=None)

        return self._carry_out(change)

    def _carry_out(self, change: Any) -> AdministeredUser:
        changed: ChangedAccess = self._work.run(ChangedAccess, change)
        if changed.generation is not None:
            self._revocations.end_user(changed.user.id, changed.generation)
        return changed.user


def _change_access(
    store: AdministrationStore,
    outbox: Appendable,
    before: AdministeredUser,
    wanted: AccessChange,
    administrators: set[int],
    actor_id: int | None,
) -> ChangedAccess:
    after = changed_access(before, wanted)
    if after == before:
        return ChangedAccess(user=before)
    if before.administers and not after.administers and administrators <= {before.id}:
        raise ConflictError("This is the last active administrator; appoint another one first.")
    user, generation = store.set_access(after)
    suspended = user.status == "suspended"
    store.end_sessions(user.id, "suspension" if suspended else "access_changed")
    summary = UserSummary(id=user.id, name=user.name, version=user.version, suspended=suspended)
    outbox.append(messages.user_updated(summary, actor_id))
    for record in audit_records(before, user, actor_id):
        outbox.record(record)
    return ChangedAccess(user=user, generation=generation)


def changed_access(user: AdministeredUser, wanted: AccessChange) -> AdministeredUser:
    """The account as it is to be. A new role brings its own permissions unless others are given."""
    changes: dict[str, Any] = {}
    if wanted.changes("role"):
        changes["role"] = wanted.role
        if wanted.role != user.role:
            changes["permissions"] = list(ROLE_PERMISSIONS[wanted.role])
    if wanted.changes("permissions"):
        changes["permissions"] = list(wanted.permissions)
    if wanted.changes("status"):
        changes["status"] = wanted.status
        changes["suspension_reason"] = (wanted.reason or None) if wanted.status == "suspended" else None
    return user.model_copy(update=changes)


def audit_records(before: AdministeredUser, after: AdministeredUser, actor_id: int | None) -> Sequence[AuditRecord]:
    """One record of each kind of change, with what was and what is."""

    def record(action: str, *fields: str) -> AuditRecord:
        details = {name: {"before": getattr(before, name), "after": getattr(after, name)} for name in fields}
        return AuditRecord(action=action, subject_type="user", subject_id=after.id, actor_id=actor_id, details=details)

    records: list[AuditRecord] = []
    if (before.role, before.permissions) != (after.role, after.permissions):
        records.append(record("user.access_changed", "role", "permissions"))
    if (before.status, before.suspension_reason) != (after.status, after.suspension_reason):
        action = "user.suspended" if after.status == "suspended" else "user.reinstated"
        records.append(record(action, "status", "suspension_reason"))
    return records
