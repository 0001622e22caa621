from eventsplatform.entrypoints.providers import provide
from eventsplatform.entrypoints.step import direct
from eventsplatform.messaging.records import Records
from eventsplatform.personal_data import HeldQuestion, HeldRows


@direct(HeldQuestion)
def handler(question: HeldQuestion) -> HeldRows:
    """What the event store and the audit log hold about a person, for handing it over."""
    return provide(Records).held_about(question.user_id, question.after)
