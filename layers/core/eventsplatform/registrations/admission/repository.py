"""The SQL of tickets and check-ins."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from eventsplatform.adapters.postgres import Row
from eventsplatform.registrations.admission.model import (
    Attendance,
    CheckIn,
    DoorChange,
    DoorChanges,
    DoorState,
    HeldTicket,
    RecordedCheckIn,
    Revocation,
    RevokedTicket,
    TicketKey,
)
from eventsplatform.registrations.model import RegistrationStatus
from eventsplatform.registrations.repository import PostgresRegistrations, registration_of


class PostgresAdmission(PostgresRegistrations):
    """Locks registrations before the event's door, of which everyone who changes anything there takes a number last."""

    # Tickets and their keys ------------------------------------------------------------------------

    def find_ticket(self, registration_id: int) -> HeldTicket | None:
        row = self._connection.execute(
            """
            SELECT registration.*, revoked.serial AS revoked_serial, revoked.revoked_at
              FROM registrations.event_registrations AS registration
              LEFT JOIN registrations.revoked_tickets AS revoked ON revoked.registration_id = registration.id
             WHERE registration.id = %s
            """,
            (registration_id,),
        ).fetchone()
        return HeldTicket(registration_of(row), _revocation(row)) if row else None

    def lock_registration(self, registration_id: int) -> None:
        self._connection.execute(
            "SELECT FROM registrations.event_registrations WHERE id = %s FOR NO KEY UPDATE", (registration_id,)
        )

    def ticket_keys(self) -> list[TicketKey]:
        rows = self._connection.execute("SELECT kid, x FROM registrations.ticket_keys ORDER BY added_at, kid")
        return [TicketKey(**row) for row in rows.fetchall()]

    def add_first_ticket_keys(self, keys: Sequence[TicketKey]) -> list[str]:
        rows = self._connection.execute(
            """
            WITH added AS (
                INSERT INTO registrations.ticket_keys (kid, x)
                SELECT kid, x
                  FROM unnest(%s::text[], %s::text[]) AS first (kid, x)
                 WHERE NOT EXISTS (SELECT FROM registrations.ticket_keys)
                ON CONFLICT (kid) DO NOTHING
                RETURNING kid
            )
            SELECT kid FROM added UNION SELECT kid FROM registrations.ticket_keys
            """,
            ([key.kid for key in keys], [key.x for key in keys]),
        ).fetchall()
        return [row["kid"] for row in rows]

    def put_ticket_keys(self, keys: Sequence[TicketKey]) -> None:
        self._connection.execute(
            """
            WITH dropped AS (
                DELETE FROM registrations.ticket_keys WHERE kid <> ALL(%(kids)s)
            )
            INSERT INTO registrations.ticket_keys (kid, x)
            SELECT kid, x FROM unnest(%(kids)s::text[], %(xs)s::text[]) AS put (kid, x)
            ON CONFLICT (kid) DO UPDATE SET x = excluded.x
            """,
            {"kids": [key.kid for key in keys], "xs": [key.x for key in keys]},
        )

    # Check-ins -------------------------------------------------------------------------------------

    def lock_attendances(self, event_id: int, registration_ids: Sequence[int]) -> dict[int, Attendance]:
        # In order, so that two who lock several never wait for each other. Those in line are left alone: offers lock
        # them in an order of their own.
        values = {"event_id": event_id, "ids": list(registration_ids)}
        locked = self._connection.execute(
            """
            SELECT *
              FROM registrations.event_registrations
             WHERE id = ANY(%(ids)s) AND event_id = %(event_id)s AND status IN ('active', 'checked_in')
             ORDER BY id
               FOR NO KEY UPDATE
            """,
            values,
        )
        # Statements of their own: what the one before waited for, they see.
        revoked = self._connection.execute(
            """
            SELECT registration_id, serial AS revoked_serial, revoked_at
              FROM registrations.revoked_tickets
             WHERE registration_id = ANY(%(ids)s)
            """,
            values,
        )
        check_ins = self._connection.execute(
            "SELECT * FROM registrations.check_ins WHERE registration_id = ANY(%(ids)s) ORDER BY id", values
        )
        rows, revocations = locked.fetchall(), {row["registration_id"]: row for row in revoked.fetchall()}
        recorded: dict[int, list[RecordedCheckIn]] = {}
        for row in check_ins.fetchall():
            recorded.setdefault(row["registration_id"], []).append(_recorded(row))
        return {
            row["id"]: Attendance(
                registration=registration_of(row),
                version=row["version"],
                part=row["part"],
                revoked=_revocation(revocations.get(row["id"])),
                check_ins=recorded.get(row["id"], []),
            )
            for row in rows
        }

    def statuses(self, event_id: int, registration_ids: Sequence[int]) -> dict[int, RegistrationStatus]:
        rows = self._connection.execute(
            "SELECT id, status FROM registrations.event_registrations WHERE id = ANY(%s) AND event_id = %s",
            (list(registration_ids), event_id),
        ).fetchall()
        return {row["id"]: row["status"] for row in rows}

    def check_in(self, event_id: int, admitted: Sequence[Attendance]) -> tuple[list[Attendance], int]:
        check_ins = [attendance.check_ins[-1].check_in for attendance in admitted]
        rows = self._connection.execute(
            """
            WITH named AS (
                SELECT *
                  FROM unnest(%(ids)s::bigint[], %(moments)s::timestamptz[], %(scan_ids)s::uuid[],
                              %(checked_in_at)s::timestamptz[], %(checked_in_by)s::bigint[])
                       WITH ORDINALITY AS named (id, registered_at, scan_id, checked_in_at, checked_in_by, rank)
            ), door AS (
                INSERT INTO registrations.doors AS door (event_id, checked_in, number)
                VALUES (%(event_id)s, %(people)s, %(people)s)
                ON CONFLICT (event_id) DO UPDATE
                   SET checked_in = door.checked_in + excluded.checked_in, number = door.number + excluded.number
                RETURNING checked_in, number
            ), admitted AS (
                UPDATE registrations.event_registrations AS registration
                   SET status = 'checked_in', version = version + 1
                  FROM named
                 WHERE registration.id = named.id AND registration.registered_at = named.registered_at
                   AND registration.status = 'active'
                RETURNING registration.*
            ), entry AS (
                INSERT INTO registrations.check_ins
                       (registration_id, event_id, user_id, scan_id, checked_in_at, checked_in_by, number)
                SELECT id, event_id, user_id, scan_id, checked_in_at, checked_in_by, door.number - %(people)s + rank
                  FROM admitted
                  JOIN named USING (id)
                 CROSS JOIN door
            )
            SELECT admitted.*, door.checked_in FROM admitted CROSS JOIN door
            """,
            {
                "event_id": event_id,
                "people": len(check_ins),
                "ids": [each.registration.id for each in admitted],
                "moments": [each.registration.registered_at for each in admitted],
                "scan_ids": [each.scan_id for each in check_ins],
                "checked_in_at": [each.checked_in_at for each in check_ins],
                "checked_in_by": [each.checked_in_by for each in check_ins],
            },
        ).fetchall()
        changed = {row["id"]: row for row in rows}
        return [_as_changed(each, changed[each.registration.id]) for each in admitted], rows[0]["checked_in"]

    def undo_check_in(
        self, event_id: int, attendance: Attendance, actor_id: int, at: datetime
    ) -> tuple[Attendance, int]:
        row = self._connection.execute(
            """
            WITH door AS (
                UPDATE registrations.doors SET checked_in = checked_in - 1, number = number + 1
                 WHERE event_id = %(event_id)s
                RETURNING checked_in, number
            ), undone AS (
                UPDATE registrations.check_ins
                   SET undone_at = %(at)s, undone_by = %(actor_id)s, number = door.number
                  FROM door
                 WHERE registration_id = %(id)s AND undone_at IS NULL
            ), restored AS (
                UPDATE registrations.event_registrations SET status = 'active', version = version + 1
                 WHERE id = %(id)s AND registered_at = %(registered_at)s
                RETURNING *
            )
            SELECT restored.*, door.checked_in FROM restored CROSS JOIN door
            """,
            {
                "event_id": event_id,
                "id": attendance.registration.id,
                "registered_at": attendance.registration.registered_at,
                "actor_id": actor_id,
                "at": at,
            },
        ).fetchone()
        assert row is not None
        (current,) = [each for each in attendance.check_ins if not each.undone]
        return replace(_as_changed(attendance, row), check_ins=[replace(current, undone=True)]), row["checked_in"]

    # Lists -----------------------------------------------------------------------------------------

    def page_of_check_ins(self, event_id: int, before: int | None, limit: int) -> list[RecordedCheckIn]:
        rows = self._connection.execute(
            """
            SELECT *
              FROM registrations.check_ins
             WHERE event_id = %s AND undone_at IS NULL AND number < %s
             ORDER BY number DESC
             LIMIT %s
            """,
            (event_id, 2**63 - 1 if before is None else before, limit),
        ).fetchall()
        return [_recorded(row) for row in rows]

    def door_state(self, event_id: int) -> DoorState:
        row = self._connection.execute(
            """
            SELECT (SELECT coalesce(sum(taken), 0) FROM registrations.places WHERE event_id = %(event_id)s)
                   - (SELECT count(*) FROM registrations.offers WHERE event_id = %(event_id)s) AS attendees,
                   coalesce(door.checked_in, 0) AS checked_in, coalesce(door.number, 0) AS number
              FROM (SELECT) AS always
              LEFT JOIN registrations.doors AS door ON door.event_id = %(event_id)s
            """,
            {"event_id": event_id},
        ).fetchone()
        assert row is not None
        return DoorState(**row)

    def door_changes(self, event_id: int, since: int, until: int, limit: int) -> DoorChanges:
        rows = self._connection.execute(
            """
            (SELECT number, registration_id, serial, NULL::timestamptz AS checked_in_at, NULL::bigint AS checked_in_by
               FROM registrations.revoked_tickets
              WHERE event_id = %(event_id)s AND number > %(since)s AND number <= %(until)s
              ORDER BY number
              LIMIT %(limit)s)
            UNION ALL
            (SELECT number, registration_id, NULL, CASE WHEN undone_at IS NULL THEN checked_in_at END,
                    CASE WHEN undone_at IS NULL THEN checked_in_by END
               FROM registrations.check_ins
              WHERE event_id = %(event_id)s AND number > %(since)s AND number <= %(until)s
              ORDER BY number
              LIMIT %(limit)s)
             ORDER BY number
             LIMIT %(limit)s
            """,
            {"event_id": event_id, "since": since, "until": until, "limit": limit + 1},
        ).fetchall()
        changes = rows[:limit]
        return DoorChanges(
            revoked=[
                RevokedTicket(registration_id=row["registration_id"], serial=row["serial"])
                for row in changes
                if row["serial"] is not None
            ],
            check_ins=[
                DoorChange(
                    registration_id=row["registration_id"],
                    checked_in_at=row["checked_in_at"],
                    checked_in_by=row["checked_in_by"],
                )
                for row in changes
                if row["serial"] is None
            ],
            until=changes[-1]["number"] if len(rows) > limit else until,
        )


def _as_changed(attendance: Attendance, row: Row) -> Attendance:
    return replace(attendance, registration=registration_of(row), version=row["version"])


def _revocation(row: Row | None) -> Revocation | None:
    if row is None or row["revoked_serial"] is None:
        return None
    return Revocation(row["revoked_serial"], row["revoked_at"])


def _recorded(row: Row) -> RecordedCheckIn:
    check_in = CheckIn(**{name: row[name] for name in CheckIn.model_fields})
    return RecordedCheckIn(check_in, row["number"], undone=row["undone_at"] is not None)
