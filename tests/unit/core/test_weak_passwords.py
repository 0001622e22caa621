from __future__ import annotations

import pytest

from eventsplatform.identity import weak_passwords
from eventsplatform.identity.weak_passwords import weakness

ADA = ("ada.lovelace@example.org", "ada.lovelace", "Ada Lovelace")


@pytest.mark.parametrize(
    "password",
    [
        "password1234",  # on the list as it is
        "PASSWORD1234",
        "qwertyuiop12",
        "passwordpassword",  # shorter ones, repeated or put together
        "password-password",
        "...princess...",
        "123456789012",  # runs
        "abcdefghijkl",
        "987654321qwerty",
        "aaaaaaaaaaaaaaaa",
        "abcabcabcabcab",
        "x" * 128,
        "Ａｄａ．Ｌｏｖｅｌａｃｅ",  # what anyone knows, in whatever width it is typed
        "ada.lovelace1815",
        "Lovelace-Ada!",
        "EventsPlatform1",
    ],
)
def test_what_is_guessed_first_is_weak(password: str) -> None:
    assert weakness(password, ADA)


@pytest.mark.parametrize(
    "password",
    [
        "correct horse battery staple",
        "correct horse battery",
        "tr0ub4dor & the zoo",
        "lovelace wrote the first programs",
        "пароль из слов",
        "🐎🔋📎 and more words",
        "kzq vjh wpx mfb",
        "Kj8#mQ2$vL5!",
        "my password is rather long",
        "ada-password-1",  # neither short nor on a list: waits are what keeps guessers from the next best
        "Welcome2024!!",
    ],
)
def test_what_takes_guessing_is_not(password: str) -> None:
    assert weakness(password, ADA) is None


def test_what_is_known_of_someone_else_is_no_weakness() -> None:
    assert weakness("ada.lovelace1815", ("grace@example.org", "Grace Hopper")) is None


def test_a_long_password_takes_no_longer_to_look_at_than_one_request_may() -> None:
    """2,560 parts of the longest password that is taken: a few milliseconds, asserted by their number."""
    seen: list[str] = []
    counts = weak_passwords._counts

    def counting(part: str, *words: frozenset[str]) -> int | None:
        seen.append(part)
        return counts(part, *words)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(weak_passwords, "_counts", counting)
        weakness("kzqvjhwpxmfb" * 10 + "z" * 8)

    assert len(seen) <= 128 * 20


def test_the_list_is_what_its_sources_give() -> None:
    common = weak_passwords._common_passwords()

    assert len(common) > 8_000
    assert all(len(entry) >= 4 and entry == entry.lower() and entry.isascii() for entry in common)
    assert sum(len(entry) >= 12 for entry in common) > 300
