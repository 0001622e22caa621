from eventsplatform.entrypoints.access import verified
from eventsplatform.entrypoints.commands import CommandFunction
from eventsplatform.entrypoints.providers import provide
from eventsplatform.identity.caller import Caller
from eventsplatform.registrations.commands import CreateRegistration
from eventsplatform.registrations.model import Registration
from eventsplatform.registrations.service import Registrations

function = CommandFunction("registrations")


@function.command("create", access=verified("events:read"))
def create(command: CreateRegistration, caller: Caller) -> Registration:
    return provide(Registrations).register(command.event_id, caller)


handler = function.handler
