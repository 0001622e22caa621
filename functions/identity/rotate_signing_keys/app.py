from typing import Any

from eventsplatform.entrypoints.providers import provide
from eventsplatform.entrypoints.step import direct
from eventsplatform.identity.rotation import AccessKeyRotation
from eventsplatform.key_rotation import RotationStep


@direct(RotationStep)
def handler(asked: RotationStep) -> dict[str, Any]:
    """One step of the rotation of the keys that sign access tokens, asked for by Secrets Manager."""
    provide(AccessKeyRotation).run(asked.step, asked.secret_id, asked.token)
    return {}
