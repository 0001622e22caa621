from eventsplatform.entrypoints.authorizer import handshake_authorizer
from eventsplatform.entrypoints.providers import provide
from eventsplatform.identity.caller import Caller
from eventsplatform.identity.tokens import AccessTokenVerifier
from eventsplatform.realtime.tickets import Tickets


def by_header(authorization: str) -> Caller:
    return provide(AccessTokenVerifier).verify_header(authorization)


def by_ticket(ticket: str) -> Caller:
    return provide(Tickets).redeem(ticket)


handler = handshake_authorizer(by_header, by_ticket)
