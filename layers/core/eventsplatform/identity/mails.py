"""What the mails about accounts say.

None repeats what was typed when the mail was asked for, such as a name: anyone can type anyone's address, and would
write to them in our name. Tokens stand behind the `#` of a link: browsers send that part to no server.
"""

from __future__ import annotations

from eventsplatform.mail import Mail

_SIGNATURE = "\n\n-- \nEvents Platform"


def confirm_address(to: str, token: str, web_url: str) -> Mail:
    return Mail(
        to,
        "Confirm your e-mail address",
        "Someone, hopefully you, has signed up with this e-mail address. To confirm it, open this link within an "
        f"hour:\n\n{web_url}/verify#token={token}\n\nor enter this code:\n\n{token}\n\n"
        "If it was not you, do nothing: without your confirmation the address is not used." + _SIGNATURE,
    )


def account_exists(to: str, web_url: str) -> Mail:
    return Mail(
        to,
        "You already have an account",
        "Someone, hopefully you, has signed up with this e-mail address, which already has an account. Nothing was "
        f"changed. You can sign in as before:\n\n{web_url}/login\n\n"
        f"or set a new password, if you no longer know it:\n\n{web_url}/forgot-password" + _SIGNATURE,
    )


def sign_up_again(to: str, web_url: str) -> Mail:
    return Mail(
        to,
        "Sign up again to confirm your e-mail address",
        "Someone, hopefully you, has asked to confirm this e-mail address. The sign-up it belongs to was too long "
        f"ago; please sign up again:\n\n{web_url}/register" + _SIGNATURE,
    )


def reset_password(to: str, token: str, web_url: str) -> Mail:
    return Mail(
        to,
        "Set a new password",
        "Someone, hopefully you, has asked to set a new password for your account. To do so, open this link within "
        f"an hour:\n\n{web_url}/reset-password#token={token}\n\nor enter this code:\n\n{token}\n\n"
        "If it was not you, do nothing: your password stays as it is." + _SIGNATURE,
    )


def password_changed(to: str, web_url: str) -> Mail:
    return Mail(
        to,
        "Your password was changed",
        "The password of your account was changed, and whoever was signed in elsewhere is signed out.\n\n"
        f"If it was not you, set a new one at once:\n\n{web_url}/forgot-password" + _SIGNATURE,
    )
