"""Mail through boto3 and the control plane, which catches it: what is sent is what arrives, and nothing else does."""

from __future__ import annotations

import socket
import stat
from collections.abc import Iterator
from dataclasses import replace
from email import message_from_bytes, policy
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError
from hypothesis import given, settings
from hypothesis import strategies as st

from eventsplatform.adapters import aws
from eventsplatform.adapters.mail import Mailer
from eventsplatform.config import MailSettings
from eventsplatform.errors import DependencyUnavailableError
from eventsplatform.mail import Attachment, Mail, MailRejectedError
from local.application import Application
from local.mailbox import Mailbox, text_message
from tests.integration.triggers.platform import Platform, platform
from tests.support.engines import RunningEngines, engines_running

APPLICATION = Application(functions={})
SETTINGS = MailSettings(sender="no-reply@events.example.org", configuration_set="local")


@pytest.fixture(scope="module")
def running(messaging: RunningEngines, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    with platform(APPLICATION, messaging.endpoints, tmp_path_factory.mktemp("state")) as started:
        yield started


@pytest.fixture
def mailer(running: Platform, monkeypatch: pytest.MonkeyPatch) -> Iterator[Mailer]:
    yield from connected(monkeypatch, running.endpoints.aws)


def connected(monkeypatch: pytest.MonkeyPatch, endpoint: str) -> Iterator[Mailer]:
    """A mailer whose boto3 finds SES at the endpoint, as a function's does: by its environment."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "local")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "local")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    aws.client.cache_clear()
    aws._session.cache_clear()
    yield Mailer(SETTINGS)
    aws.client.cache_clear()
    aws._session.cache_clear()


def mailbox(running: Platform) -> Mailbox:
    return Mailbox(running.state / "mail")


def test_a_mail_arrives_as_it_was_sent(running: Platform, mailer: Mailer) -> None:
    # Given a text with a link that is longer than a line, and characters of several scripts
    link = f"http://localhost:8080/app/verify#token={'t0ken-' * 40}"
    text = f"Liebe Zoë, 你好 🎷\n\n{link}\n\nOr enter this code: {'c0de' * 20}.\n"

    # When it is sent
    mailer.send(Mail("zoe@example.org", "Bestätige deine Adresse – ようこそ", text))

    # Then it is there, whole
    (mail,) = mailbox(running).mails("zoe@example.org")
    assert mail.subject == "Bestätige deine Adresse – ようこそ"
    assert mail.text == text
    assert mail.links == (link,)


def test_a_file_arrives_with_its_mail_and_as_it_was(running: Platform, mailer: Mailer) -> None:
    calendar = "BEGIN:VCALENDAR\r\nSUMMARY:Grüße 🎷\r\nEND:VCALENDAR\r\n".encode()
    file = Attachment("event-42.ics", "text/calendar; charset=utf-8; method=PUBLISH", calendar)

    mailer.send(Mail("filed@example.org", "You have a place", "See the file.", file))

    (mail,) = mailbox(running).mails("filed@example.org")
    assert mail.text == "See the file.\n"
    newest = sorted((running.state / "mail").iterdir())[-1]
    (attached,) = message_from_bytes(newest.read_bytes(), policy=policy.default).iter_attachments()
    assert (attached.get_filename(), attached.get_content_type()) == ("event-42.ics", "text/calendar")
    assert attached["content-type"].params["method"] == "PUBLISH"
    assert attached.get_payload(decode=True) == calendar


def test_a_file_is_a_message_that_mail_programs_read_and_nobody_else(running: Platform, mailer: Mailer) -> None:
    mailer.send(Mail("file@example.org", "Read me 📖", "Hello\n"))

    newest = sorted((running.state / "mail").iterdir())[-1]
    message = message_from_bytes(newest.read_bytes(), policy=policy.default)
    assert message["from"] == "no-reply@events.example.org"
    assert message["to"] == "file@example.org"
    assert message["subject"] == "Read me 📖"
    assert message["date"].datetime.tzinfo is not None
    assert message["message-id"].endswith("amazonses.com>")
    assert not message.defects
    assert stat.S_IMODE(newest.stat().st_mode) == 0o600


def test_mails_are_shown_oldest_first_and_by_exact_address(running: Platform, mailer: Mailer) -> None:
    for number in range(12):
        mailer.send(Mail("order@example.org" if number % 2 else "border@example.org", f"Mail {number}", "Hello"))

    shown = [mail.subject for mail in mailbox(running).mails("order@example.org")]
    assert shown == ["Mail 1", "Mail 3", "Mail 5", "Mail 7", "Mail 9", "Mail 11"]


def test_mails_outlive_the_platform_and_later_ones_come_behind_them(tmp_path: Path) -> None:
    mail = {
        "FromEmailAddress": "no-reply@example.org",
        "Destination": {"ToAddresses": ["ada@example.org"]},
    }
    with engines_running(tmp_path / "engines", only=frozenset({"kafka", "aws"})) as engines:
        for subject in ("first", "second"):
            with platform(APPLICATION, engines.endpoints, tmp_path) as started:
                content = {"Subject": {"Data": subject}, "Body": {"Text": {"Data": "Hello"}}}
                started.client("sesv2").send_email(**mail, Content={"Simple": content})

    assert [mail.subject for mail in Mailbox(tmp_path / "mail").mails()] == ["first", "second"]


def test_a_sender_with_a_name_of_any_script_is_encoded(running: Platform, mailer: Mailer) -> None:
    named = Mailer(replace(SETTINGS, sender="Événements <no-reply@events.example.org>"))

    named.send(Mail("named@example.org", "Hello", "Hello"))

    newest = sorted((running.state / "mail").iterdir())[-1]
    sender = message_from_bytes(newest.read_bytes(), policy=policy.default)["from"].addresses[0]
    assert (sender.display_name, sender.addr_spec) == ("Événements", "no-reply@events.example.org")


def test_a_domain_of_any_script_goes_out_as_dns_has_it(running: Platform, mailer: Mailer) -> None:
    mailer.send(Mail("ada@bücher.example", "Hello", "Hello"))

    assert len(mailbox(running).mails("ada@xn--bcher-kva.example")) == 1


def test_what_ses_takes_in_no_form_is_rejected_for_good(mailer: Mailer) -> None:
    with pytest.raises(MailRejectedError):
        mailer.send(Mail("größe@example.org", "Hello", "Hello"))


@pytest.mark.parametrize(
    "change",
    [
        {"Destination": {"ToAddresses": ["ada@example.org\r\nBcc: eve@example.org"]}},
        {"Destination": {"ToAddresses": ["ada@example.org"], "BccAddresses": ["eve@example.org"]}},
        {"Destination": {"ToAddresses": []}},
        {"FromEmailAddress": "no-reply@example.org\r\nBcc: eve@example.org"},
        {"Content": {"Simple": {"Subject": {"Data": "A\r\nBcc: eve@example.org"}, "Body": {"Text": {"Data": "x"}}}}},
        {"Content": {"Template": {"TemplateName": "Welcome"}}},
    ],
)
def test_what_would_write_header_fields_of_its_own_is_refused_here_as_well(
    running: Platform, change: dict[str, Any]
) -> None:
    before = len(mailbox(running).mails())
    sound = {
        "FromEmailAddress": "no-reply@example.org",
        "Destination": {"ToAddresses": ["ada@example.org"]},
        "Content": {"Simple": {"Subject": {"Data": "A"}, "Body": {"Text": {"Data": "x"}}}},
    }

    with pytest.raises(ClientError, match="BadRequestException"):
        running.client("sesv2").send_email(**(sound | change))

    assert len(mailbox(running).mails()) == before
    running.client("sesv2").send_email(**sound)  # which the change alone made wrong


def test_a_refusal_is_told_from_a_service_that_is_away_and_neither_is_logged_with_the_address(
    mailer: Mailer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # Given SES as it answers mails that it does not take: with the address in the message
    wording = {"Message": "Email address is not verified. The following identities failed: secret@example.org"}
    ses = aws.client("sesv2")

    def failing(code: str) -> None:
        def refuse(**_: Any) -> None:
            raise ClientError({"Error": {"Code": code, **wording}}, "SendEmail")

        monkeypatch.setattr(ses, "send_email", refuse)

    mail = Mail("secret@example.org", "Secret subject", "secret text")

    # When it is the mail's fault, trying again is of no use; otherwise it is
    for code, expected in [
        ("MessageRejected", MailRejectedError),
        ("BadRequestException", MailRejectedError),
        ("TooManyRequestsException", DependencyUnavailableError),
        ("SendingPausedException", DependencyUnavailableError),
        ("AccessDeniedException", DependencyUnavailableError),
    ]:
        failing(code)
        with pytest.raises(expected) as raised:
            mailer.send(mail)
        assert "secret" not in str(raised.value)

    assert "ecret" not in capsys.readouterr().out


def test_a_service_that_does_not_answer_can_be_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as closed:  # bound, but nobody listens
        closed.bind(("127.0.0.1", 0))
        for mailer in connected(monkeypatch, f"http://127.0.0.1:{closed.getsockname()[1]}"):
            with pytest.raises(DependencyUnavailableError):
                mailer.send(Mail("ada@example.org", "Hello", "Hello"))


@settings(deadline=None, max_examples=200)
@given(
    subject=st.text(st.characters(exclude_categories=("Cc", "Cs", "Zl", "Zp")), min_size=1, max_size=200),
    text=st.text(st.characters(exclude_categories=("Cs",)), max_size=2000),
)
def test_any_subject_and_text_survive_the_file(subject: str, text: str, tmp_path_factory: Any) -> None:
    box = Mailbox(tmp_path_factory.mktemp("mail"))

    box.put(text_message(sender="no-reply@example.org", to=["ada@example.org"], subject=subject, text=text))

    (mail,) = box.mails()
    assert mail.subject.strip() == subject.strip()
    assert mail.text.rstrip("\n") == text.replace("\r\n", "\n").replace("\r", "\n").rstrip("\n")
