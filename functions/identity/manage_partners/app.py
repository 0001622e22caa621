from eventsplatform.entrypoints.providers import provide
from eventsplatform.entrypoints.step import direct
from eventsplatform.identity.partners import Granted, PartnerRequest, Partners, Withdrawn


@direct(PartnerRequest)
def handler(request: PartnerRequest) -> Granted | Withdrawn:
    """Grant a partner system the right to send commands, or withdraw it: for who operates the platform."""
    if request.grant is not None:
        return provide(Partners).grant(request.grant)
    assert request.withdraw is not None
    return provide(Partners).withdraw(request.withdraw)
