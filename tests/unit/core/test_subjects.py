"""Patterns are NATS' own (a server is asked in `tests/integration/core/test_subjects.py`), and templates are safe."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventsplatform.messaging.subjects import MANY, ONE, Pattern, Template, decode, encode

words = st.sampled_from(["a", "b", "c"])
subjects = st.lists(words, min_size=1, max_size=5).map(".".join)
patterns = st.builds(
    lambda tokens, rest: ".".join([*tokens, *rest]),
    st.lists(words | st.just("*"), max_size=4),
    st.sampled_from([["a"], ["*"], [">"]]),
)
texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)


def matches(pattern: list[str], subject: list[str]) -> bool:
    """What the documentation says, word for word."""
    if pattern == [">"]:
        return len(subject) >= 1
    if not pattern or not subject:
        return pattern == subject
    return pattern[0] in ("*", subject[0]) and matches(pattern[1:], subject[1:])


def is_subject(text: str) -> bool:
    """Whether it is nothing but tokens that stand for themselves."""
    return text.isascii() and not {ONE, MANY} & set(Pattern.parse(text).tokens)


def lookup(values: Mapping[str, str]) -> object:
    return lambda name: values.get(name, "")


@given(patterns, subjects)
def test_a_pattern_matches_what_the_documentation_says(pattern: str, subject: str) -> None:
    assert (Pattern.parse(pattern).match(subject) is not None) == matches(pattern.split("."), subject.split("."))


@given(patterns, patterns, st.lists(subjects, max_size=30))
def test_patterns_that_do_not_overlap_have_no_subject_in_common(one: str, other: str, some: list[str]) -> None:
    mine, others = Pattern.parse(one), Pattern.parse(other)
    both = [subject for subject in some if mine.match(subject) is not None and others.match(subject) is not None]

    assert mine.overlaps(others) == others.overlaps(mine)
    if both:
        assert mine.overlaps(others)


@given(patterns, patterns)
def test_patterns_overlap_where_a_subject_shows_it(one: str, other: str) -> None:
    """Every pair of short patterns is settled by the subjects of up to five tokens of three words and no more."""
    from itertools import product

    mine, others = Pattern.parse(one), Pattern.parse(other)
    every = (".".join(tokens) for length in range(1, 6) for tokens in product("abc", repeat=length))
    common = any(mine.match(each) is not None and others.match(each) is not None for each in every)

    assert mine.overlaps(others) == common


@given(patterns, patterns, subjects)
def test_what_a_pattern_covers_it_matches(one: str, other: str, subject: str) -> None:
    wide, narrow = Pattern.parse(one), Pattern.parse(other)
    if wide.covers(narrow):
        assert wide.overlaps(narrow)
        assert narrow.match(subject) is None or wide.match(subject) is not None


@pytest.mark.parametrize(
    ("wide", "narrow", "covers"),
    [
        (">", "a.b", True),
        ("a.>", "a.*", True),
        ("a.>", "a", False),
        ("a.*", "a.b", True),
        ("a.*", "a.>", False),
        ("*.b", "a.*", False),
        ("a.b", "a.b", True),
    ],
)
def test_covering(wide: str, narrow: str, covers: bool) -> None:
    assert Pattern.parse(wide).covers(Pattern.parse(narrow)) == covers


def test_captures_are_what_their_wildcards_stood_for() -> None:
    pattern = Pattern.parse("inbound.{service}.*.{entity}.{rest>}")

    assert pattern.subject == "inbound.*.*.*.>"
    assert pattern.match("inbound.events.update.42.a.b") == {"service": "events", "entity": "42", "rest": "a.b"}
    assert pattern.match("inbound.events.update.42") is None


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "'' is no token"),
        ("a..b", "'' is no token"),
        ("a.", "'' is no token"),
        ("a b", "'a b' is no token"),
        ("a.{", "'{' is no token"),
        ("a.{Name}", "'{Name}' is no token"),
        ("a.x{name}", "'x{name}' is no token"),
        ("a.>.b", "something follows"),
        ("{all>}.b", "something follows"),
        ("{a}.{a}", "the same name"),
    ],
)
def test_what_is_no_pattern_is_refused_with_the_reason(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason.replace("{", r"\{").replace("}", r"\}")):
        Pattern.parse(text)


def test_stars_within_a_token_are_letters_as_they_are_to_nats() -> None:
    assert Pattern.parse("a*.b>").match("a*.b>") == {}
    assert Pattern.parse("a*.b>").match("ax.bx") is None


@given(texts)
def test_any_text_is_one_token_that_reads_back(text: str) -> None:
    token = encode(text)

    assert is_subject(token)
    assert "." not in token
    assert decode(token) == text


@given(texts, texts)
def test_what_a_template_puts_into_a_subject_its_pattern_takes_out(entity: str, action: str) -> None:
    values = {"entity": entity, "action": action}
    subject = Template.parse("x.{action}.{entity}").subject(lookup(values))  # type: ignore[arg-type]

    assert is_subject(subject)
    assert Pattern.parse("x.{action}.{entity}").match(subject) == values


def test_values_that_are_subjects_keep_their_dots_and_nothing_else() -> None:
    values = lookup({"type": "events.cre ated.>", "id": "4.2"})

    assert Template.parse("{type>}.{id}").subject(values) == "events.cre%20ated.%3E.4%2E2"  # type: ignore[arg-type]


@pytest.mark.parametrize("values", [{}, {"type": "a", "id": ""}, {"type": "a..b", "id": "1"}, {"type": ".", "id": "1"}])
def test_a_subject_with_an_empty_token_is_refused(values: Mapping[str, str]) -> None:
    with pytest.raises(ValueError, match="empty"):
        Template.parse("{type>}.{id}").subject(lookup(values))  # type: ignore[arg-type]


def test_a_subject_is_bounded() -> None:
    with pytest.raises(ValueError, match="characters; allowed"):
        Template.parse("{a}").subject(lambda _: "x" * 2_000)


def test_the_first_value_that_is_not_empty_is_taken_and_texts_are_not_encoded() -> None:
    template = Template.parse("<{a|b|message.id}>")

    assert template.fill(lookup({"b": "x.y z", "message.id": "no"})) == "<x.y z>"  # type: ignore[arg-type]
    assert template.fill(lookup({})) == "<>"  # type: ignore[arg-type]


@pytest.mark.parametrize("text", ["{", "}", "{}", "a{b", "{a|}", "{|a}", "{a b}", "{{a}}"])
def test_what_is_no_template_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="hold no name"):
        Template.parse(text)


@pytest.mark.parametrize(
    ("template", "pattern"),
    [("a.{x}.b", "a.*.b"), ("{x>}.{y}", ">"), ("a.p-{x}", "a.*"), ("a.{x>}.b", "a.>"), ("a.b", "a.b")],
)
def test_a_template_s_pattern_has_every_subject_that_comes_of_it(template: str, pattern: str) -> None:
    assert Template.parse(template).pattern.subject == pattern
