from eventsplatform.entrypoints.providers import provide
from eventsplatform.entrypoints.step import direct
from eventsplatform.personal_data import HeldQuestion, HeldRows
from eventsplatform.registrations.attendees import Attendees
from eventsplatform.registrations.webhooks.owners import WebhookOwners


@direct(HeldQuestion)
def handler(question: HeldQuestion) -> HeldRows:
    """What registrations holds about a person, for handing it over."""
    registered = provide(Attendees).held_about(question.user_id, question.after)
    return registered.beside(provide(WebhookOwners).held_about(question.user_id, question.after))
