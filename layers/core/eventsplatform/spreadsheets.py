"""Rows of a table as CSV (RFC 4180) that spreadsheet programs take for nothing but text and numbers (CWE-1236)."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence

MEDIA_TYPE = "text/csv"

Cell = str | int | None

# Where a cell begins, also for a program that separates cells by something else than commas, and is a formula: what
# OWASP lists, behind white space and quotes, which programs drop. https://owasp.org/www-community/attacks/CSV_Injection
_FORMULA = re.compile(r"""(?:^|(?<=[;|\t\r\n]))(?=[\s"]*[=+\-@＝＋－＠\t\r\n])""")


def csv_row(cells: Sequence[Cell]) -> str:
    """A line with its end."""
    written = io.StringIO()
    csv.writer(written, lineterminator="\r\n").writerow([_inert(c) if isinstance(c, str) else c for c in cells])
    return written.getvalue()


def _inert(text: str) -> str:
    """With an apostrophe, which makes a program take the rest as it stands, wherever a formula would begin."""
    return _FORMULA.sub("'", text)
