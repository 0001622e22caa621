from __future__ import annotations

from collections.abc import Callable

import pytest

from eventsplatform.identity import mails
from eventsplatform.mail import Mail

TO, TOKEN, WEB = "ada@example.org", "t0k3n", "https://events.example.org/app"


@pytest.mark.parametrize(
    ("write", "page"), [(mails.confirm_address, "verify"), (mails.reset_password, "reset-password")]
)
def test_a_token_stands_behind_the_hash_of_its_link_and_as_a_code(
    write: Callable[[str, str, str], Mail], page: str
) -> None:
    """What is behind the # is sent to no server and so stands in no log."""
    mail = write(TO, TOKEN, WEB)

    assert f"{WEB}/{page}#token={TOKEN}\n" in mail.text
    assert f"\n{TOKEN}\n" in mail.text
    assert TOKEN not in mail.subject


@pytest.mark.parametrize("write", [mails.account_exists, mails.sign_up_again, mails.password_changed])
def test_other_mails_lead_to_the_web_client_and_hold_no_token(write: Callable[[str, str], Mail]) -> None:
    mail = write(TO, WEB)

    assert WEB in mail.text
    assert "token" not in mail.text
