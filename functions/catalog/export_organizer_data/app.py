from eventsplatform.catalog.organizers import Organizers
from eventsplatform.entrypoints.providers import provide
from eventsplatform.entrypoints.step import direct
from eventsplatform.personal_data import HeldQuestion, HeldRows


@direct(HeldQuestion)
def handler(question: HeldQuestion) -> HeldRows:
    """What the catalog holds about a person, for handing it over."""
    return provide(Organizers).held_about(question.user_id, question.after)
