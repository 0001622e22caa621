from eventsplatform.entrypoints.providers import provide
from eventsplatform.entrypoints.step import direct
from eventsplatform.identity.account_mails import AccountMails, MailRequest


@direct(MailRequest)
def handler(request: MailRequest) -> dict[str, str]:
    """Send what was asked for on behalf of an address, if it comes to a mail."""
    return {"outcome": provide(AccountMails).send(request)}
