"""Mail on one machine: what a function sends is at `/dev/mail`, which a deployed stage does not have."""

from __future__ import annotations

from pathlib import Path

from local.triggers.aws import aws_client
from tests.support.platform import RunningPlatform

ROOT = Path(__file__).parents[2]


def test_a_mail_that_is_sent_to_the_aws_endpoint_is_shown_by_the_gateway(platform: RunningPlatform) -> None:
    content = {
        "Subject": {"Data": "Bestätigen", "Charset": "UTF-8"},
        "Body": {"Text": {"Data": "Hier: http://localhost:1/app/verify#token=abc", "Charset": "UTF-8"}},
    }

    aws_client("sesv2", platform.endpoints["aws"]).send_email(
        FromEmailAddress="no-reply@events.example.org",
        Destination={"ToAddresses": ["end-to-end@example.org"]},
        Content={"Simple": content},
    )

    answer = platform.http.get("/dev/mail", params={"to": "end-to-end@example.org"})
    assert answer.status_code == 200
    assert answer.json() == [
        {
            "to": "end-to-end@example.org",
            "subject": "Bestätigen",
            "text": "Hier: http://localhost:1/app/verify#token=abc\n",
            "links": ["http://localhost:1/app/verify#token=abc"],
        }
    ]
    assert list((platform.state / "mail").glob("*.eml"))


def test_no_template_knows_the_page() -> None:
    for template in (ROOT / "template.yaml", *(ROOT / "stacks").iterdir()):
        assert "/dev/" not in template.read_text()
