from eventsplatform.catalog.commands import CancelEvent, CreateEvent, UpdateEvent
from eventsplatform.catalog.model import Event
from eventsplatform.catalog.service import Catalog
from eventsplatform.entrypoints.access import verified
from eventsplatform.entrypoints.commands import CommandFunction
from eventsplatform.entrypoints.providers import provide
from eventsplatform.identity.caller import Caller

function = CommandFunction("events")


@function.command("create", access=verified("events:create"))
def create(command: CreateEvent, caller: Caller) -> Event:
    return provide(Catalog).create(command.event, caller)


@function.command("update", access=verified("events:update"))
def update(command: UpdateEvent, caller: Caller) -> Event:
    return provide(Catalog).change(command.event_id, command.changes, caller, if_match=command.if_match)


@function.command("cancel", access=verified("events:update"))
def cancel(command: CancelEvent, caller: Caller) -> Event:
    return provide(Catalog).cancel(command.event_id, command.reason, caller)


handler = function.handler
