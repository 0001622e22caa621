from typing import Any

from pydantic import BaseModel, Field

from eventsplatform.entrypoints.providers import provide
from eventsplatform.entrypoints.step import direct
from eventsplatform.identity.rotation import KeyRotation, Step


class RotationStep(BaseModel):
    step: Step = Field(alias="Step")
    secret_id: str = Field(alias="SecretId")
    token: str = Field(alias="ClientRequestToken")


@direct(RotationStep)
def handler(asked: RotationStep) -> dict[str, Any]:
    """One step of the rotation of the keys that sign access tokens, asked for by Secrets Manager."""
    provide(KeyRotation).run(asked.step, asked.secret_id, asked.token)
    return {}
