from eventsplatform.entrypoints.providers import provide
from eventsplatform.entrypoints.schedule import Run, scheduled
from eventsplatform.identity.housekeeping import Housekeeping

# Longer than any statement takes, so that none is cut off.
RESERVE_MS = 10_000


@scheduled
def handler(run: Run) -> dict[str, int]:
    """Delete tokens, sign-ups and sessions that have had their time."""
    return provide(Housekeeping).run(lambda: run.remaining_ms() > RESERVE_MS)
