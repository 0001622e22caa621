from typing import Any

from eventsplatform.entrypoints.providers import provide
from eventsplatform.entrypoints.schedule import Run, scheduled
from eventsplatform.observability import emit_metric
from eventsplatform.registrations.attendee_mails import AttendeeMails
from eventsplatform.registrations.mail_queue import MailQueue

STOP_BEFORE_MS = 15_000


@scheduled
def handler(run: Run) -> dict[str, Any]:
    """Send the mails that are queued for attendees; every minute queue reminders, too, and news of moved events."""
    if not run.input.get("poked"):
        provide(MailQueue).sweep()
    outcomes = provide(AttendeeMails).send(lambda: run.remaining_ms() > STOP_BEFORE_MS)
    for outcome, mails in outcomes.items():
        emit_metric("attendee_mails_total", mails, outcome=outcome)
    return dict(outcomes)
