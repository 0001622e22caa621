from eventsplatform.entrypoints.providers import provide
from eventsplatform.entrypoints.step import direct
from eventsplatform.messaging.replay import Replay, ReplayPage, ReplayRequest


@direct(ReplayRequest)
def handler(request: ReplayRequest) -> ReplayPage:
    """Send the next page of messages again; whoever operates the platform calls until there is none."""
    return provide(Replay).run(request)
