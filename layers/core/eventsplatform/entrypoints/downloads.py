"""Answers that are files, in parts where they are large."""

from __future__ import annotations

from urllib.parse import urlencode

from fastapi.responses import Response

from eventsplatform.spreadsheets import MEDIA_TYPE

CSV = {MEDIA_TYPE: {"schema": {"type": "string", "description": "Comma-separated values (RFC 4180)"}}}


def csv_part(text: str, *, filename: str, is_first: bool, next_cursor: str | None) -> Response:
    """Lines of a CSV file. Where to get the next ones stands in `Link` (RFC 8288), relative to the request's URL."""
    headers = {"Content-Disposition": f'attachment; filename="{filename}"'}
    if next_cursor is not None:
        headers["Link"] = f'<?{urlencode({"cursor": next_cursor})}>; rel="next"'
    media_type = f"{MEDIA_TYPE}; charset=utf-8; header={'present' if is_first else 'absent'}"
    return Response(text, media_type=media_type, headers=headers)
