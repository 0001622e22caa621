"""Accounts for crowds on a running platform: opened as an operator opens them, with hashes that cost nothing."""

from __future__ import annotations

import json

from pydantic import SecretStr

from eventsplatform.identity.model import Credentials, SignUp
from local.platform import RELAY_FUNCTION
from local.triggers.aws import aws_client
from tests.support.database import SHARDS, services
from tests.support.people import CLIENT
from tests.support.platform import PASSWORD, Account, RunningPlatform, new_address


def open_accounts(platform: RunningPlatform, number: int) -> list[Account]:
    """People who have signed in: their tokens are signed with the platform's keys."""
    endpoint = platform.endpoints["aws"]
    keys = json.loads(aws_client("secretsmanager", endpoint).get_secret_value(SecretId="JwtKeys")["SecretString"])
    accounts = []
    with services(platform.endpoints["postgres"], keys=lambda: keys) as running:
        for _ in range(number):
            email = new_address()
            running.accounts.open(SignUp(email=email, password=SecretStr(PASSWORD), name="Ada Lovelace"))
            session = running.sessions.login(Credentials(email=email, password=SecretStr(PASSWORD)), CLIENT)
            accounts.append(Account(session.user.id, email, session.access_token, session.refresh_token))
    wake_relay = json.dumps({"shards": list(range(SHARDS))}).encode()
    aws_client("lambda", endpoint).invoke(FunctionName=RELAY_FUNCTION, InvocationType="Event", Payload=wake_relay)
    return accounts
