"""`python -m local <command>`: the platform on one machine, and its tools."""

from __future__ import annotations

import argparse
import sys
from importlib import import_module

COMMANDS = {
    "appoint": "make an account an administrator",
    "demo": "load the demo data into an empty database",
    "dev": "run the whole platform",
    "import-ics": "publish the events of an iCalendar file through the API",
    "nats": "print the messages that outside services get over NATS",
    "openapi": "print the OpenAPI document of the REST API",
    "partner-token": "let a partner system send commands on someone's behalf",
    "replay": "send messages again: of a time, of an aggregate, or dead letters",
    "routes": "check and print which messages cross between Kafka and NATS",
    "schemas": "write the JSON Schemas of messages",
    "verify-projections": "compare every projection with the event store",
    "ws": "send frames to the WebSocket API and print what comes",
}


def main(arguments: list[str] | None = None) -> int:
    """Run a command and return its exit code. Only that command's module is loaded."""
    listing = "\n".join(f"  {command:<18} {text}" for command, text in COMMANDS.items())
    parser = argparse.ArgumentParser(
        prog="python -m local",
        description=f"The platform on one machine.\n\n{listing}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("command", choices=COMMANDS, metavar="command", help="each has its own --help")
    parser.add_argument("rest", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    chosen = parser.parse_args(arguments)
    module = import_module(f"local.commands.{chosen.command.replace('-', '_')}")
    command = argparse.ArgumentParser(prog=f"python -m local {chosen.command}", description=COMMANDS[chosen.command])
    module.add_arguments(command)
    result: int = module.run(command.parse_args(chosen.rest))
    return result


if __name__ == "__main__":
    sys.exit(main())
