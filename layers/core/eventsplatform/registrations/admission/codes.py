"""A ticket's token as a QR code (ISO/IEC 18004)."""

from __future__ import annotations

import io

# Of a module, of which a ticket's code has about 65 a side; and the white margin that readers expect, in modules.
DOTS, MARGIN = 8, 4

# Read when up to 15 % of it are hidden by a reflection or a scratch.
ERROR_CORRECTION = "m"

_KINDS = {"image/svg+xml": "svg", "image/png": "png"}


def qr_code(token: str, media_type: str) -> bytes:
    """The code as `image/svg+xml` or `image/png`: black on white, also where pages are dark."""
    import segno  # for pictures alone: a twentieth of a second

    picture = io.BytesIO()
    code = segno.make_qr(token, error=ERROR_CORRECTION)
    code.save(picture, kind=_KINDS[media_type], scale=DOTS, border=MARGIN, light="white")
    return picture.getvalue()
