"""Reading `routes.yaml`: all that is wrong with it is said at once, each with its line."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import cache
from itertools import combinations, pairwise
from pathlib import Path
from typing import Annotated, Any, TypeVar

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, TypeAdapter, ValidationError

from eventsplatform.messaging.model import INBOUND_TOPIC, TOPICS
from eventsplatform.messaging.routes import FromNats, Routes, Stream, ToNats, unknown_names
from eventsplatform.messaging.subjects import Pattern, Template

ROUTES_FILE = Path(__file__).with_name("routes.yaml")
KNOWN_TOPICS = frozenset({*TOPICS.values(), INBOUND_TOPIC})

Place = tuple[str | int, ...]
"""Where something stands in the file: keys and indices from its top."""

T = TypeVar("T")


class RoutesError(ValueError):
    """The file cannot be used; `problems` are `<file>:<line>: <what is wrong>`."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


def _parsed(parse: Callable[[str], T]) -> Any:
    return BeforeValidator(lambda value: parse(value) if isinstance(value, str) else value)


def _subject_template(text: str) -> Template:
    """Raises ValueError for a template that makes no subjects."""
    template = Template.parse(text)
    assert template.pattern
    return template


PatternText = Annotated[Pattern, _parsed(Pattern.parse)]
TemplateText = Annotated[Template, _parsed(Template.parse)]
SubjectText = Annotated[Template, _parsed(_subject_template)]
# Of metrics, consumers and leases.
Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{0,39}$")]
HeaderName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9-]{0,99}$")]
StreamName = Annotated[str, Field(pattern=r"^[A-Z][A-Z0-9_-]{0,39}$")]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, arbitrary_types_allowed=True)


class _Stream(_Section):
    subjects: Annotated[list[PatternText], Field(min_length=1)]
    max_age_hours: Annotated[int, Field(ge=1)]
    duplicate_window_minutes: Annotated[int, Field(ge=1)]
    max_message_kib: Annotated[int, Field(ge=1, le=960)]  # NATS takes 1 MB with headers, and Kafka 1 MB


class _ToNats(_Section):
    route: Name
    topics: Annotated[list[str], Field(min_length=1)]
    type: PatternText = Pattern.parse(">")
    stream: StreamName
    subject: SubjectText
    headers: dict[HeaderName, TemplateText] = {}


class _FromNats(_Section):
    route: Name
    shard: Name = "inbound"
    subject: PatternText
    topic: str
    type: SubjectText
    key: TemplateText
    headers: dict[HeaderName, TemplateText] = {}
    may_loop: bool = False


class _File(_Section):
    platform: Name
    streams: dict[StreamName, _Stream]
    kafka_to_nats: list[_ToNats] = []
    nats_to_kafka: list[_FromNats] = []


@cache
def platform_routes() -> Routes:
    return read_routes(ROUTES_FILE)


def read_routes(path: Path, *, topics: Collection[str] = KNOWN_TOPICS) -> Routes:
    """Raises RoutesError, and OSError when there is no such file."""
    text = path.read_text(encoding="utf-8")
    try:
        content, lines = _content_and_lines(text)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise RoutesError([f"{path.name}:{line}: {error.problem}"]) from error

    def problem(place: Place, what: str) -> str:
        known = next(place[:length] for length in range(len(place), -1, -1) if place[:length] in lines)
        return f"{path.name}:{lines[known]}: {'.'.join(map(str, place[-1:]))}: {what}"

    try:
        file = TypeAdapter(_File).validate_python(content)
    except ValidationError as error:
        raise RoutesError([problem(each["loc"], _reason(each)) for each in error.errors()]) from error
    if problems := [problem(place, what) for place, what in _inconsistencies(file, topics, lines)]:
        raise RoutesError(problems)
    return _routes(file)


def _reason(error: Any) -> str:
    return str(error["msg"]).removeprefix("Value error, ")


def _routes(file: _File) -> Routes:
    streams = {
        name: Stream(
            name,
            tuple(stream.subjects),
            max_age_seconds=stream.max_age_hours * 3600,
            duplicate_window_seconds=stream.duplicate_window_minutes * 60,
            max_message_bytes=stream.max_message_kib * 1024,
        )
        for name, stream in file.streams.items()
    }
    to_nats = tuple(
        ToNats(each.route, frozenset(each.topics), each.type, streams[each.stream], each.subject, each.headers)
        for each in file.kafka_to_nats
    )
    from_nats = tuple(
        FromNats(
            each.route,
            each.shard,
            streams[_stream_of(each.subject, file.streams)],
            each.subject,
            each.topic,
            each.type,
            each.key,
            each.headers,
        )
        for each in file.nats_to_kafka
    )
    return Routes(file.platform, streams, to_nats, from_nats)


def _stream_of(subject: Pattern, streams: Mapping[str, _Stream]) -> str:
    """The stream that has all of these subjects; empty when none has."""
    return next((name for name, stream in streams.items() if any(each.covers(subject) for each in stream.subjects)), "")


# What is wrong although every value on its own is well-formed.


def _inconsistencies(file: _File, topics: Collection[str], lines: Mapping[Place, int]) -> Iterator[tuple[Place, str]]:
    yield from _streams_that_share_subjects(file)
    yield from _names_given_twice(file)
    yield from _unknown_destinations(file, topics)
    yield from _unknown_names(file)
    yield from _routes_never_taken(file, lines)
    yield from _shards_that_cannot_be_read(file, lines)
    yield from _loops(file, lines)


def _streams_that_share_subjects(file: _File) -> Iterator[tuple[Place, str]]:
    every = [
        (name, number, pattern)
        for name, stream in file.streams.items()
        for number, pattern in enumerate(stream.subjects)
    ]
    for (first, _, mine), (second, number, others) in combinations(every, 2):
        if mine.overlaps(others):
            yield (
                ("streams", second, "subjects", number),
                f"{others.text!r} overlaps with {mine.text!r} of {first}: a subject is of one stream",
            )


def _names_given_twice(file: _File) -> Iterator[tuple[Place, str]]:
    seen: set[str] = set()
    names = [(("kafka_to_nats", number, "route"), each.route) for number, each in enumerate(file.kafka_to_nats)]
    names += [(("nats_to_kafka", number, "route"), each.route) for number, each in enumerate(file.nats_to_kafka)]
    for place, name in names:
        if name in seen:
            yield place, f"{name!r} is the name of another route"
        seen.add(name)


def _unknown_destinations(file: _File, topics: Collection[str]) -> Iterator[tuple[Place, str]]:
    known = f"there are {', '.join(sorted(topics))}"
    for number, to_nats in enumerate(file.kafka_to_nats):
        for index, topic in enumerate(to_nats.topics):
            if topic not in topics:
                yield ("kafka_to_nats", number, "topics", index), f"no topic {topic!r}; {known}"
        stream = file.streams.get(to_nats.stream)
        if stream is None:
            place: Place = ("kafka_to_nats", number, "stream")
            yield place, f"no stream {to_nats.stream!r}; there are {', '.join(file.streams)}"
        elif not any(each.overlaps(to_nats.subject.pattern) for each in stream.subjects):
            yield ("kafka_to_nats", number, "subject"), f"{to_nats.stream} has no subject that could come of it"
    for number, from_nats in enumerate(file.nats_to_kafka):
        if from_nats.topic not in topics:
            yield ("nats_to_kafka", number, "topic"), f"no topic {from_nats.topic!r}; {known}"
        if not _stream_of(from_nats.subject, file.streams):
            yield ("nats_to_kafka", number, "subject"), "no stream has all of these subjects"


def _unknown_names(file: _File) -> Iterator[tuple[Place, str]]:
    for place, template, pattern in _templates(file):
        for unknown in unknown_names(template, pattern.names, headers=place[0] == "nats_to_kafka"):
            yield place, f"nothing is called {unknown!r}"


def _templates(file: _File) -> Iterator[tuple[Place, Template, Pattern]]:
    """Each template with the pattern whose captures it may name."""
    for number, to_nats in enumerate(file.kafka_to_nats):
        route: Place = ("kafka_to_nats", number)
        yield (*route, "subject"), to_nats.subject, to_nats.type
        for name, header in to_nats.headers.items():
            yield (*route, "headers", name), header, to_nats.type
    for number, from_nats in enumerate(file.nats_to_kafka):
        route = ("nats_to_kafka", number)
        yield (*route, "type"), from_nats.type, from_nats.subject
        yield (*route, "key"), from_nats.key, from_nats.subject
        for name, header in from_nats.headers.items():
            yield (*route, "headers", name), header, from_nats.subject


def _routes_never_taken(file: _File, lines: Mapping[Place, int]) -> Iterator[tuple[Place, str]]:
    for (earlier, first), (number, second) in combinations(enumerate(file.kafka_to_nats), 2):
        if set(second.topics) <= set(first.topics) and first.type.covers(second.type):
            line = lines["kafka_to_nats", earlier]
            yield ("kafka_to_nats", number, "route"), f"never taken: {first.route!r} in line {line} takes all of it"
    for (earlier, one), (number, other) in combinations(enumerate(file.nats_to_kafka), 2):
        if one.subject.covers(other.subject):
            line = lines["nats_to_kafka", earlier]
            yield ("nats_to_kafka", number, "route"), f"never taken: {one.route!r} in line {line} takes all of it"


def _shards_that_cannot_be_read(file: _File, lines: Mapping[Place, int]) -> Iterator[tuple[Place, str]]:
    for (earlier, one), (number, other) in combinations(enumerate(file.nats_to_kafka), 2):
        place: Place = ("nats_to_kafka", number, "subject")
        beside = f"{one.subject.text!r} of line {lines['nats_to_kafka', earlier]}"
        same_stream = _stream_of(one.subject, file.streams) == _stream_of(other.subject, file.streams)
        if one.shard == other.shard and not same_stream:
            yield ("nats_to_kafka", number, "shard"), f"{other.shard!r} reads another stream already"
        elif not one.subject.overlaps(other.subject):
            continue
        elif one.shard != other.shard:
            yield place, f"overlaps with {beside}, which another shard reads: messages would be sent twice"
        elif not (one.subject.covers(other.subject) or other.subject.covers(one.subject)):
            yield place, f"overlaps with {beside} in part: NATS takes no such filters for one consumer"


def _loops(file: _File, lines: Mapping[Place, int]) -> Iterator[tuple[Place, str]]:
    """What goes to NATS must not be read from there, unless a route says that it may: then `via` stops it."""
    for number, back in enumerate(file.nats_to_kafka):
        for earlier, out in enumerate(file.kafka_to_nats):
            stream = file.streams.get(out.stream)
            written = stream.subjects if stream else []
            comes_back = out.subject.pattern.overlaps(back.subject) and any(
                each.overlaps(back.subject) for each in written
            )
            if comes_back and not back.may_loop:
                yield (
                    ("nats_to_kafka", number, "subject"),
                    f"reads what {out.route!r} of line {lines['kafka_to_nats', earlier]} writes; "
                    "if that is meant, say `may_loop: true`",
                )


def _content_and_lines(text: str) -> tuple[Any, dict[Place, int]]:
    """Raises yaml.MarkedYAMLError, also for a key that is given twice."""
    loader = yaml.SafeLoader(text)
    try:
        root = loader.get_single_node()
        if root is None:
            return None, {(): 1}
        lines: dict[Place, int] = {}
        _note_lines(root, (), lines)
        return loader.construct_document(root), lines
    finally:
        loader.dispose()


def _note_lines(node: yaml.Node, place: Place, lines: dict[Place, int]) -> None:
    lines.setdefault(place, node.start_mark.line + 1)
    if isinstance(node, yaml.SequenceNode):
        for number, item in enumerate(node.value):
            _note_lines(item, (*place, number), lines)
    elif isinstance(node, yaml.MappingNode):
        keys = sorted((str(key.value), key.start_mark.index, key) for key, _ in node.value)
        for (first, _, _), (second, _, key) in pairwise(keys):
            if first == second:
                raise yaml.MarkedYAMLError(problem=f"{second}: given twice", problem_mark=key.start_mark)
        for key, value in node.value:
            lines[*place, key.value] = key.start_mark.line + 1
            _note_lines(value, (*place, key.value), lines)
