"""Looking through everything that a platform has logged for the secrets that its tests have used."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_plus

import httpx

from local.mailbox import Mailbox

# Shorter ones may be a word of any line.
SHORTEST = 10

_SECRET_MEMBERS = re.compile(r"(password|token|secret|ticket)$", re.IGNORECASE)
_MAIL_MEMBERS = re.compile(r"(e?mail|to)$", re.IGNORECASE)
# Of the platform's own length: what a fuzzer makes up may stand anywhere.
_TOKEN_OF_URL = re.compile(r"[?&]token=([\w-]{43})(?![\w-])")
_TOKEN_OF_LINK = re.compile(r"[#?&]token=([\w~-]+)")

# What is a secret whoever used it. Engines do log words with an @ in them, so addresses are searched for in the logs
# of functions alone.
_SHAPES = {
    "a JSON Web Token": re.compile(rb"eyJ[\w-]{10,}\.[\w-]{10,}"),
    "a password's hash": re.compile(rb"\$argon2id?\$"),
}
_ADDRESS = re.compile(rb"[\w.+-]+(?:@|%40)[\w-]+\.\w+")


@dataclass
class UsedSecrets:
    """What must not be found, and what each is; `watch` a client and its exchanges are taken note of.

    `echoed` are the answers that repeated a password, or an error's that repeated a token.
    """

    known: dict[str, str] = field(default_factory=dict)
    echoed: list[str] = field(default_factory=list)

    def watch(self, client: httpx.Client) -> httpx.Client:
        client.event_hooks = {"request": [self._note_request], "response": [self._note_response]}
        return client

    def add(self, what: str, value: object) -> None:
        if isinstance(value, str) and len(value) >= SHORTEST:
            self.known.setdefault(value, what)

    def add_kept(self, state: Path) -> None:
        """What the platform has made up itself: generated secrets, and the links in its mails."""
        if (kept := state / "secrets.json").exists():
            for name, value in json.loads(kept.read_text()).items():
                members = json.loads(value) if value.startswith("{") else {name: value}
                self._add_members(members, all_of="a generated secret")
        for mail in Mailbox(state / "mail").mails():
            self.add("address", mail.to)
            for token in _TOKEN_OF_LINK.findall(mail.text):
                self.add("token in a mail", token)

    def _note_request(self, request: httpx.Request) -> None:
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        self.add("authorization", token or scheme)
        self._add_token_of(str(request.url))
        self._add_json(request.read())

    def _note_response(self, response: httpx.Response) -> None:
        sent = UsedSecrets()
        sent._note_request(response.request)
        content = response.read()
        for secret, what in sent.known.items():
            is_told = what.endswith("password") or (what != "address" and response.is_error)
            if is_told and any(form in content for form in _forms(secret)):
                where = f"{response.request.method} {response.request.url.path}"
                self.echoed.append(f"{where} {response.status_code}: {what}")
        self._add_json(content)

    def _add_token_of(self, url: str) -> None:
        if token := _TOKEN_OF_URL.search(url):
            self.add("token in a URL", token[1])

    def _add_json(self, content: bytes) -> None:
        try:
            self._add_members(json.loads(content))
        except (ValueError, RecursionError):
            return

    def _add_members(self, value: Any, all_of: str = "") -> None:
        if isinstance(value, Mapping):
            for name, member in value.items():
                if all_of or _SECRET_MEMBERS.search(name):
                    self.add(all_of or name, member)
                elif _MAIL_MEMBERS.search(name) and isinstance(member, str) and "@" in member:
                    self.add("address", member)
                elif isinstance(member, str):
                    self._add_token_of(member)
                self._add_members(member)
        elif isinstance(value, list):
            for item in value:
                self._add_members(item)


def leaks(state: Path, secrets: Mapping[str, str]) -> list[str]:
    """Where a secret stands in a log, and which kind it is of; never the secret itself."""
    searched = {form: what for secret, what in secrets.items() for form in _forms(secret)}
    found: list[str] = []
    for path in _logs(state):
        content = path.read_bytes()
        of_function = path.parent.name == "functions"
        shapes = {**_SHAPES, "an address": _ADDRESS} if of_function else _SHAPES
        places = [(what, content.find(form)) for form, what in searched.items() if form in content]
        places += [(what, match.start()) for what, shape in shapes.items() if (match := shape.search(content))]
        for what, at in places:
            line = content.count(b"\n", 0, at) + 1
            found.append(f"{path.relative_to(state)}:{line}: {what}")
    return found


def _forms(secret: str) -> Iterator[bytes]:
    """As it is, and as JSON and URLs write it."""
    yield from {
        form.encode(errors="replace")
        for form in (secret, json.dumps(secret)[1:-1], json.dumps(secret, ensure_ascii=False)[1:-1],
                     quote(secret, safe="", errors="replace"), quote_plus(secret, errors="replace"))
    }  # fmt: skip


def _logs(state: Path) -> Iterator[Path]:
    """Each engine's and each function's, rotated ones included, and what the platform itself has printed."""
    yield from sorted(path for path in (state / "logs").rglob("*") if path.is_file())
    yield from sorted(state.glob("output-*.txt"))
