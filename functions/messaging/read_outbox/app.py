from eventsplatform.entrypoints.providers import provide
from eventsplatform.entrypoints.step import direct
from eventsplatform.messaging.history import History, HistoryQuestion, RecordedHistory


@direct(HistoryQuestion)
def handler(question: HistoryQuestion) -> RecordedHistory:
    """An event's changes, or its state at a moment, for the catalog, which decides who may see it."""
    return provide(History).answer(question)
