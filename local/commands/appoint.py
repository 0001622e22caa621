"""Makes an account of the platform that is running here an administrator, as an operator of a deployed one does.

It invokes the same function (docs/operations/first-administrator.md): there is no other way to the first administrator.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from local.commands.endpoints import STATE, running_endpoints
from local.triggers.aws import aws_client

FUNCTION = "AppointAdministratorFunction"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("email", help="of an account that exists")
    parser.add_argument("--state", type=Path, default=STATE, help="the platform's state directory")


def run(options: argparse.Namespace) -> int:
    endpoints = running_endpoints(options.state)
    if endpoints is None:
        return 2
    client = aws_client("lambda", endpoints["aws"])
    answer = client.invoke(FunctionName=FUNCTION, Payload=json.dumps({"email": options.email}).encode())
    result = json.loads(answer["Payload"].read())
    if "FunctionError" in answer:
        print(result["errorMessage"], file=sys.stderr)
        return 1
    print(f"{result['email']} is an administrator; sign in again.")
    return 0
