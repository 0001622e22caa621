"""What a template would declare for the two functions."""

from __future__ import annotations

from pathlib import Path

from local.application import Application, Function, RestApi, RestRoute

HERE = Path(__file__).parent
CORE_LAYER = HERE.parents[2] / "layers" / "core"

FUNCTIONS = {
    name: Function(
        name=name,
        handler="app.handler",
        code=HERE / name,
        layers=(CORE_LAYER,),
        timeout_seconds=15,
        memory_mb=512,
        environment={"POWERTOOLS_SERVICE_NAME": "noop", "POWERTOOLS_LOG_LEVEL": "INFO"},
    )
    for name in ("plain", "http")
}
APPLICATION = Application(
    functions=FUNCTIONS,
    rest_api=RestApi("Noop", "bench", tuple(RestRoute("GET", f"/{name}", name) for name in FUNCTIONS)),
)
