"""Rotating the keys that sign tickets.

Only who signs reads the secret. The public halves are in the database, where those who verify find them: put there by
each rotation, and at first by the first one to sign (`tickets.Tickets`).
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Protocol

from eventsplatform.key_rotation import KeyRotation, SecretVersions, details
from eventsplatform.messaging.model import AuditRecord, Work
from eventsplatform.registrations.admission.model import TicketClaims, TicketKey
from eventsplatform.registrations.admission.tokens import ForgedTicketError, TicketReader, public_keys, sign
from eventsplatform.signing_keys import KeySet, key_number

_TRIAL = TicketClaims(event_id=1, registration_id=1, serial=1, issued_at=datetime(2026, 1, 1, tzinfo=UTC))


class TicketKeyStore(Protocol):
    def put_ticket_keys(self, keys: Sequence[TicketKey]) -> None:
        """In place of all that there are."""


class TicketKeyRotation(KeyRotation):
    """A token is good until the rotation after the one that retired its key; who asks for the ticket gets a new one."""

    def __init__(self, versions: SecretVersions, work: Work[TicketKeyStore]) -> None:
        super().__init__(versions)
        self._work = work

    def accepts(self, verifier: KeySet, signer: KeySet) -> bool:
        try:
            return TicketReader(public_keys(verifier)).read(sign(_TRIAL, signer)) == _TRIAL
        except ForgedTicketError:
            return False

    def announce(self, pending: KeySet, version: str) -> None:
        """From here on who verifies goes by the new set, which has what signs now and what signs next."""
        with self._work() as (store, outbox):
            store.put_ticket_keys(public_keys(pending))
            outbox.record(
                AuditRecord(
                    action="ticket_keys.rotated",
                    subject_type="ticket_key",
                    subject_id=key_number(pending["active"]),
                    actor_id=None,
                    details=details(pending, version),
                )
            )
