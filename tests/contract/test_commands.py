"""Commands of partner systems: what functions carry out, what tokens can allow, and what the API asks for the same."""

from __future__ import annotations

from eventsplatform.entrypoints.access import Access
from eventsplatform.identity.partners import PARTNER_COMMANDS
from eventsplatform.messaging import schemas
from local.openapi import load_function
from tests.support.application import template_application

HANDLERS = ("HandleEventCommandsFunction", "HandleRegistrationCommandsFunction")
ENDPOINTS = {
    "inbound.events.create": "CreateEventFunction",
    "inbound.events.update": "ChangeEventFunction",
    "inbound.events.cancel": "CancelEventFunction",
    "inbound.registrations.create": "CreateRegistrationFunction",
}


def access_of_commands() -> dict[str, Access]:
    functions = template_application().functions
    access: dict[str, Access] = {}
    for name in HANDLERS:
        access |= load_function(functions[name]).function.access
    return access


def test_what_tokens_can_allow_is_what_is_carried_out_and_has_a_schema() -> None:
    carried_out = set(access_of_commands())

    assert carried_out == {f"inbound.{command}" for command in PARTNER_COMMANDS}
    assert carried_out == {name for name in schemas.types() if name.startswith("inbound.")}


def test_a_command_asks_for_what_the_api_asks_for() -> None:
    functions = template_application().functions

    assert access_of_commands() == {
        command: load_function(functions[endpoint]).function.access for command, endpoint in ENDPOINTS.items()
    }


def test_every_function_on_the_inbound_topic_is_a_handler_of_commands() -> None:
    reading = {
        mapping.function for mapping in template_application().kafka_mappings if "evp.inbound.v1" in mapping.topics
    }

    assert reading == set(HANDLERS)
