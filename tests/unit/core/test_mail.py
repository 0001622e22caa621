"""What a mail may say to whom, before anything is sent."""

from __future__ import annotations

import pytest

from eventsplatform.mail import Mail


@pytest.mark.parametrize(
    "to",
    [
        "ada@example.org\r\nBcc: eve@example.org",
        "ada@example.org\nBcc: eve@example.org",
        "ada@example.org,eve@example.org",
        "ada@example.org, eve@example.org",
        "ada@example.org;eve@example.org",
        "Ada <ada@example.org>",
        "ada@example.org (Ada)",
        "friends:ada@example.org;",
        '"ada\r\nBcc: eve"@example.org',
        "ada@example.org\x00",
        "ada@example.org\x7f",
        "ada@example.org\u2028Bcc:eve@example.org",
        "ada@@example.org",
        "ada",
        "",
        f"{'a' * 243}@example.org",
    ],
)
def test_whatever_is_more_or_less_than_one_address_is_refused(to: str) -> None:
    with pytest.raises(ValueError, match="one address"):
        Mail(to, "Welcome", "Hello")


@pytest.mark.parametrize(
    "subject",
    [
        "Welcome\r\nBcc: eve@example.org",
        "Welcome\nX",
        "Welcome\rX",
        "Welcome\x0bX",
        "Welcome\x85X",
        "Welcome\u2028X",
        "Welcome\ud800",
        " ",
        "",
        "w" * 201,
    ],
)
def test_a_subject_of_several_lines_is_refused(subject: str) -> None:
    with pytest.raises(ValueError, match="one line"):
        Mail("ada@example.org", subject, "Hello")


@pytest.mark.parametrize("to", ["ada@example.org", "o'hara+events/x=1@sub.example.org", "größe@bücher.example"])
def test_addresses_that_exist_are_taken(to: str) -> None:
    assert Mail(to, "Grüße aus Köln 🎷", "Hello\r\nthere").to == to


def test_the_representation_which_logs_may_show_tells_nothing() -> None:
    assert repr(Mail("ada@example.org", "Reset", "token=abc")) == "Mail()"
