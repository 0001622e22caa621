"""Addresses on the web that users give: which the platform may show to others, and which it may call itself, without
being turned against the network it stands in (server-side request forgery, OWASP API7:2023).

Here is what the text of a URL and an address tell; `adapters.outbound` looks names up and connects.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Annotated

from pydantic import AfterValidator, Field, WithJsonSchema

MAXIMUM_URL = 2048
HTTPS_PORTS = frozenset({443})

# RFC 3986 and nothing besides: parsers disagree about backslashes, spaces, user names and other characters, and what
# is checked here must be the host for all of them.
_CHARACTERS = r"(?:[\w.~!$&'()*+,;=:@/-]|%[0-9a-f]{2})"
_URL = re.compile(
    r"https://(?P<host>[a-z0-9.-]{1,253})(?::(?P<port>\d{1,5}))?"
    rf"(?P<target>(?:/{_CHARACTERS}*)?(?:\?(?:{_CHARACTERS}|\?)*)?)(?:\#(?:{_CHARACTERS}|\?)*)?",
    re.IGNORECASE | re.ASCII,
)

# RFC 1123 §2.1.
_LABEL = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?", re.ASCII)

# Names that stand for this machine or this network, whatever a resolver says (RFC 6761, 6762, 8375, 9476; ICANN has
# set `internal` aside for it).
_LOCAL_DOMAINS = ("localhost", "local", "internal", "home.arpa", "alt", "onion", "localdomain", "lan", "intranet")

# Of IPv4, what IANA lists as not globally reachable, and besides: 6to4 relays, multicast and what is reserved. Of IPv6
# only what is given out as global unicast can be public, less what leads elsewhere: protocols (Teredo among them),
# documentation, 6to4. So no form of IPv4 within IPv6 is public: mapped, compatible or translated (NAT64).
# https://www.iana.org/assignments/iana-ipv4-special-registry, https://www.iana.org/assignments/iana-ipv6-special-registry
_NOT_PUBLIC_4 = [
    ip_network(network)
    for network in (
        "0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24",
        "192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24",
        "224.0.0.0/4", "240.0.0.0/4",
    )
]  # fmt: skip
_GLOBAL_UNICAST_6 = ip_network("2000::/3")
_NOT_PUBLIC_6 = [ip_network(network) for network in ("2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20")]


class NotPublicError(ValueError):
    """An address that the platform does not call; the message is for whoever gave it."""


class UnreachableError(Exception):
    """No answer could be had in time; another attempt may get one."""


@dataclass(frozen=True)
class PublicUrl:
    """The parts of a URL that a request needs; that its host has public addresses only is yet to be seen."""

    host: str
    port: int
    target: str  # path and query


def parse_public_url(text: str, *, ports: Collection[int] = HTTPS_PORTS) -> PublicUrl:
    """Raises NotPublicError for what is no https URL, names a user, an address or another port, or is too long."""
    match = _URL.fullmatch(text) if len(text) <= MAXIMUM_URL else None
    if match is None:
        raise NotPublicError(
            f"must be a URL of at most {MAXIMUM_URL} characters such as 'https://example.org/picture.png'; "
            "write other characters than those of RFC 3986 as %XX and international names as xn--…"
        )
    host, port = match["host"].lower().removesuffix("."), int(match["port"] or 443)
    if any(host == domain or host.endswith(f".{domain}") for domain in _LOCAL_DOMAINS):
        raise NotPublicError("must name a host of the public internet")
    labels = host.split(".")
    # An address ends with a number, of whatever base.
    if len(labels) < 2 or not all(map(_LABEL.fullmatch, labels)) or labels[-1][0].isdigit():
        raise NotPublicError("must name a host, such as 'example.org', and not an address")
    if port not in ports:
        raise NotPublicError(f"must use port {' or '.join(map(str, sorted(ports)))}")
    target = match["target"]
    return PublicUrl(host, port, target if target.startswith("/") else f"/{target}")


def is_public(address: str | IPv4Address | IPv6Address) -> bool:
    """Whether an address belongs to one network card on the public internet; False for what is no address."""
    try:
        parsed = ip_address(address)
    except ValueError:
        return False
    if isinstance(parsed, IPv4Address):
        return not any(parsed in network for network in _NOT_PUBLIC_4)
    # A scope (`%eth0`) is for addresses of one link.
    if parsed.scope_id is not None or parsed not in _GLOBAL_UNICAST_6:
        return False
    return not any(parsed in network for network in _NOT_PUBLIC_6)


def _public_url(text: str) -> str:
    parse_public_url(text)
    return text


# The text alone is checked: where the platform never calls the URL, a name that is nowhere does no harm.
PublicHttpsUrl = Annotated[
    str,
    Field(max_length=MAXIMUM_URL),
    AfterValidator(_public_url),
    WithJsonSchema({"type": "string", "format": "uri", "maxLength": MAXIMUM_URL}),
]
