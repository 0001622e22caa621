from typing import Any

from eventsplatform.entrypoints.providers import provide
from eventsplatform.entrypoints.step import direct
from eventsplatform.key_rotation import RotationStep
from eventsplatform.registrations.admission.rotation import TicketKeyRotation


@direct(RotationStep)
def handler(asked: RotationStep) -> dict[str, Any]:
    """One step of the rotation of the keys that sign tickets, asked for by Secrets Manager."""
    provide(TicketKeyRotation).run(asked.step, asked.secret_id, asked.token)
    return {}
