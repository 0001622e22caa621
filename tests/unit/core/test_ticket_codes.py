"""QR codes of tickets, read back as the devices at a door do."""

from __future__ import annotations

from eventsplatform.registrations.admission.codes import DOTS, MARGIN, qr_code
from tests.support.qr_codes import from_png, from_svg, read
from tests.unit.core.test_ticket_tokens import CLAIMS, KEYS, sign

TOKEN = sign(CLAIMS, KEYS)


def test_the_picture_says_the_token() -> None:
    assert read(from_png(qr_code(TOKEN, "image/png"))) == TOKEN


def test_the_drawing_says_the_token() -> None:
    assert read(from_svg(qr_code(TOKEN, "image/svg+xml"))) == TOKEN


def test_a_code_is_small_enough_to_be_read_at_a_glance() -> None:
    """65 modules with the margin are version 10: at 3 cm, half a millimetre each."""
    rows = from_png(qr_code(TOKEN, "image/png"))

    assert len(rows) <= (57 + 2 * MARGIN) * DOTS
    assert len(qr_code(TOKEN, "image/png")) < 2_000


def test_a_reflection_on_a_part_of_it_does_not_matter() -> None:
    rows = from_png(qr_code(TOKEN, "image/png"))
    middle, side = len(rows) // 2, 6 * DOTS
    for row in rows[middle : middle + side]:
        row[middle : middle + side] = b"\xff" * side

    assert read(rows) == TOKEN


def test_a_picture_of_another_ticket_is_another() -> None:
    """The control: what is read is what is in the picture."""
    assert read(from_png(qr_code(TOKEN.replace("e", "f", 1), "image/png"))) != TOKEN
