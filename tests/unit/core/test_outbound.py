"""Which URLs and addresses count as the public internet."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from eventsplatform.outbound import MAXIMUM_URL, NotPublicError, PublicHttpsUrl, PublicUrl, is_public, parse_public_url


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("https://example.org", PublicUrl("example.org", 443, "/")),
        ("https://example.org/a/b.png?c=d&e=%20#f", PublicUrl("example.org", 443, "/a/b.png?c=d&e=%20")),
        ("https://example.org?q", PublicUrl("example.org", 443, "/?q")),
        ("HTTPS://CDN.Example.org:443/A", PublicUrl("cdn.example.org", 443, "/A")),
        ("https://example.org./x", PublicUrl("example.org", 443, "/x")),
        ("https://xn--bcher-kva.example/x", PublicUrl("xn--bcher-kva.example", 443, "/x")),
        ("https://1.example.org/@user/x:y", PublicUrl("1.example.org", 443, "/@user/x:y")),
        ("https://localhost.example.org/", PublicUrl("localhost.example.org", 443, "/")),
    ],
)
def test_a_url_of_the_public_internet_comes_in_its_parts(text: str, parts: PublicUrl) -> None:
    assert parse_public_url(text) == parts


@pytest.mark.parametrize(
    "text",
    [
        # Other schemes
        "http://example.org/", "ftp://example.org/", "file:///etc/passwd", "javascript:alert(1)", "//example.org/",
        "data:image/png;base64,AA==", "gopher://example.org/", "https:example.org", "https:///example.org", "",
        # Somebody's name in it, and what only looks so
        "https://user@example.org/", "https://user:password@example.org/", "https://example.org@127.0.0.1/",
        "https://example.org:443@127.0.0.1/", "https://127.0.0.1#@example.org/", "https://127.0.0.1\\@example.org/",
        "https://example.org\\.evil.test/", "https:\\\\example.org/",
        # Ports
        "https://example.org:22/", "https://example.org:80/", "https://example.org:8443/", "https://example.org:0443x/",
        "https://example.org:/", "https://example.org:-443/", "https://example.org:99999/",
        # Addresses, in all the ways that some resolver understands
        "https://127.0.0.1/", "https://8.8.8.8/", "https://2130706433/", "https://0x7f000001/", "https://0x7f.1/",
        "https://0177.0.0.1/", "https://127.1/", "https://1.2.3/", "https://[::1]/", "https://[2606:4700::1111]/",
        "https://[::ffff:127.0.0.1]/", "https://169.254.169.254/latest/meta-data/", "https://①②⑦.⓪.⓪.①/",
        "https://example.0x7f/", "https://127.0.0.1./",
        # Names of this machine and this network
        "https://localhost/", "https://LOCALHOST./", "https://a.localhost/", "https://printer.local/",
        "https://metadata.google.internal/", "https://db.internal/", "https://router.home.arpa/", "https://nas.lan/",
        "https://intranet/", "https://redis/",
        # No host names
        "https://-a.example.org/", "https://a-.example.org/", "https://a..org/", "https://.org/", "https://ex_ample.org/",
        "https://bücher.example/", f"https://{'a' * 64}.org/", f"https://{'a.' * 127}org/", "https://./",
        # What a line or a header would end with, and what RFC 3986 has no place for
        "https://example.org/a b", " https://example.org/", "https://example.org/\n", "https://example.org/\r\nX: y",
        "https://example.org/\x00", "https://example.org/ä", "https://example.org/<x>", 'https://example.org/"',
        "https://example.org/%zz", "https://example.org/a#b#c", "https://exam\tple.org/",
        f"https://example.org/{'a' * MAXIMUM_URL}",
    ],
)  # fmt: skip
def test_everything_else_is_refused(text: str) -> None:
    with pytest.raises(NotPublicError):
        parse_public_url(text)


def test_other_ports_are_for_who_lists_them() -> None:
    assert parse_public_url("https://example.org:8443/", ports={443, 8443}).port == 8443
    with pytest.raises(NotPublicError, match="port 443 or 8443"):
        parse_public_url("https://example.org:9443/", ports={443, 8443})


@pytest.mark.parametrize(
    "address",
    [
        "0.0.0.0", "10.0.0.1", "100.64.0.1", "100.100.100.200", "127.0.0.1", "127.255.255.254", "169.254.169.254",
        "169.254.170.2", "172.16.0.1", "172.31.255.255", "192.0.0.1", "192.0.0.192", "192.0.2.1", "192.88.99.1",
        "192.168.1.1", "198.18.0.1", "198.51.100.1", "203.0.113.1", "224.0.0.1", "239.255.255.250", "240.0.0.1",
        "255.255.255.255",
        "::", "::1", "fe80::1", "fe80::1%eth0", "fc00::1", "fd00:ec2::254", "fec0::1", "ff02::1", "100::1",
        "2001:db8::1", "3fff::1", "5f00::1",
        # IPv4 within IPv6: mapped, compatible, NAT64 (both prefixes), 6to4, Teredo, ISATAP
        "::ffff:127.0.0.1", "::ffff:8.8.8.8", "::ffff:a9fe:a9fe", "::127.0.0.1", "64:ff9b::7f00:1", "64:ff9b::808:808",
        "64:ff9b:1::a00:1", "2002:7f00:1::", "2002:a9fe:a9fe::1", "2001:0:7f00:1::", "fe80::5efe:7f00:1",
        # No addresses
        "", "localhost", "8.8.8.8/32", "8.8.8", "0x8.8.8.8", "08.8.8.8", "2606:4700::1111%1",
    ],
)  # fmt: skip
def test_an_address_that_is_not_one_hosts_on_the_public_internet_is_not_public(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize(
    "address",
    ["1.1.1.1", "8.8.8.8", "93.184.216.34", "100.63.255.255", "100.128.0.1", "172.15.255.255", "172.32.0.1",
     "192.167.255.255", "2606:4700:4700::1111", "2a00:1450:4001:81b::200e", "2001:4860:4860::8888"],
)  # fmt: skip
def test_an_address_of_the_public_internet_is(address: str) -> None:
    assert is_public(address)


@given(st.integers(0, 2**32 - 1).map(IPv4Address))
def test_nothing_is_public_that_python_knows_not_to_be(address: IPv4Address) -> None:
    if is_public(address):
        assert address.is_global
        assert not address.is_multicast


@given(st.integers(0, 2**32 - 1))
def test_no_form_of_an_ipv4_address_within_ipv6_is_public(number: int) -> None:
    forms = [("::", 0), ("::ffff:0:0", 0), ("64:ff9b::", 0), ("2002::", 80), ("2001::", 0)]

    assert not any(is_public(IPv6Address(int(IPv6Address(prefix)) + (number << shift))) for prefix, shift in forms)


def test_the_field_keeps_the_text_and_says_what_is_wrong() -> None:
    field = TypeAdapter(PublicHttpsUrl)

    assert field.validate_python("https://Example.org/A%20") == "https://Example.org/A%20"
    with pytest.raises(ValidationError, match="public internet"):
        field.validate_python("https://localhost/x.png")
    assert field.json_schema() == {"type": "string", "format": "uri", "maxLength": MAXIMUM_URL}
