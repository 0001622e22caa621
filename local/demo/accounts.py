"""The accounts of the demo data. Every one of them has the same password, so none belongs on a real deployment.

| e-mail                     | who                                                                     |
|----------------------------|-------------------------------------------------------------------------|
| `organizer@example.org`    | lives in Berlin; organises events there, some of them full with a line  |
| `attendee@example.org`     | lives in Berlin; likes tech and music; is registered for a dozen events |
| `user0003@example.org` …   | everyone else, numbered; the lower numbers organise events              |

All addresses are under example.org, which is reserved (RFC 2606): no mail can ever reach anyone.
"""

PASSWORD = "demo-password-1234"  # noqa: S105  documented, for demo data alone
ORGANIZER_EMAIL = "organizer@example.org"
ATTENDEE_EMAIL = "attendee@example.org"


def email_of(number: int) -> str:
    """The address of the user with this number, from 1."""
    return {1: ORGANIZER_EMAIL, 2: ATTENDEE_EMAIL}.get(number, f"user{number:04d}@example.org")
