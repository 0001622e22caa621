"""Lets a partner system give commands on someone's behalf, or no longer, as an operator of a deployed platform does.

It invokes the same function (docs/operations/partners.md). The token is printed once and kept nowhere.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from eventsplatform.identity.partners import DAYS_MAXIMUM, PARTNER_COMMANDS
from local.commands.endpoints import STATE, running_endpoints
from local.triggers.aws import aws_client

FUNCTION = "ManagePartnersFunction"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("partner", help="its name, such as acme")
    parser.add_argument("--email", help="of the account on whose behalf it acts")
    parser.add_argument(
        "--command", action="append", choices=PARTNER_COMMANDS, help="may be given several times; default: all"
    )
    parser.add_argument("--days", type=int, default=DAYS_MAXIMUM, help=f"1 to {DAYS_MAXIMUM}; default: {DAYS_MAXIMUM}")
    parser.add_argument("--withdraw", action="store_true", help="end all that the partner was granted")
    parser.add_argument("--state", type=Path, default=STATE, help="the platform's state directory")


def run(options: argparse.Namespace) -> int:
    if options.withdraw == (options.email is not None):
        print("Either --email or --withdraw.", file=sys.stderr)
        return 2
    endpoints = running_endpoints(options.state)
    if endpoints is None:
        return 2
    client = aws_client("lambda", endpoints["aws"])
    answer = client.invoke(FunctionName=FUNCTION, Payload=json.dumps(_request(options)).encode())
    result = json.loads(answer["Payload"].read())
    if "FunctionError" in answer:
        print(result["errorMessage"], file=sys.stderr)
        return 1
    print(f"{len(result['session_ids'])} grants have ended." if options.withdraw else result["token"])
    return 0


def _request(options: argparse.Namespace) -> dict[str, Any]:
    if options.withdraw:
        return {"withdraw": {"partner": options.partner}}
    commands = options.command or list(PARTNER_COMMANDS)
    return {"grant": {"partner": options.partner, "email": options.email, "commands": commands, "days": options.days}}
