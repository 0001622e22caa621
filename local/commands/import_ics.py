"""Publishes the events of an iCalendar file through the API, and says of each entry that it could not take why."""

from __future__ import annotations

import argparse
import getpass
import os
import sys
from pathlib import Path

import httpx

from eventsplatform.clock import utc_now
from local.import_ics import (
    ApiUnavailableError,
    CalendarFileError,
    NotPublishedError,
    Publisher,
    Reading,
    SignInError,
    read_calendar,
)
from local.import_ics.entries import DEFAULT_CAPACITY
from local.import_ics.publisher import TIMEOUT

PASSWORD_VARIABLE = "EVENTS_PLATFORM_PASSWORD"  # noqa: S105  the name of the variable


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = "Exit code: 0 when every entry was taken, 1 when some were not, 2 when nothing could be started."
    parser.add_argument("file", type=Path, help="an .ics file")
    parser.add_argument("--api", default="http://127.0.0.1:8080", metavar="URL", help="default: %(default)s")
    parser.add_argument("--email", required=True, help="of the user who organises the events")
    parser.add_argument("--password", help=f"default: ${PASSWORD_VARIABLE}, else asked for")
    parser.add_argument("--capacity", type=int, default=DEFAULT_CAPACITY, help="of each event; default: %(default)s")
    parser.add_argument(
        "--timezone",
        default="UTC",
        help="of times that name no zone, unless the calendar has one; default: %(default)s",
    )
    parser.add_argument("--encoding", default="utf-8", help="of the file, if it is not UTF-8")


def run(options: argparse.Namespace) -> int:
    password = options.password or os.environ.get(PASSWORD_VARIABLE)
    if not password and sys.stdin.isatty():
        password = getpass.getpass(f"Password of {options.email}: ")
    if not password:
        return _not_started(f"which password? Give --password or set {PASSWORD_VARIABLE}")
    try:
        reading = read_calendar(
            options.file.read_bytes(),
            utc_now(),
            capacity=options.capacity,
            timezone=options.timezone,
            encoding=options.encoding,
        )
        with httpx.Client(base_url=options.api, timeout=TIMEOUT) as client:
            publisher = Publisher(client, email=options.email, password=password)
            publisher.sign_in()
            return publish_all(reading, publisher)
    except CalendarFileError as error:
        return _not_started(f"{options.file}: {error}")
    except OSError as error:
        return _not_started(f"{options.file}: {error.strerror}")
    except SignInError as error:
        return _not_started(f"{options.email} could not sign in: {error}")
    except ApiUnavailableError as error:
        return _not_started(f"{error}. Is the platform running? Start it with: make dev")
    except (NotPublishedError, httpx.InvalidURL, httpx.UnsupportedProtocol, ValueError) as error:
        return _not_started(str(error))


def _not_started(reason: str) -> int:
    print(f"Nothing was imported: {reason}", file=sys.stderr)
    return 2


def publish_all(reading: Reading, publisher: Publisher) -> int:
    """Publish entry by entry, whatever becomes of each, and report; the exit code. Ends early when the API is gone."""
    for refusal in reading.refusals:
        _report_refused(refusal.line, refusal.summary, refusal.uid, refusal.reason)
    published = 0
    gone = ""
    for entry in reading.entries:
        try:
            if gone:
                raise ApiUnavailableError(gone)
            event_id = publisher.publish(entry)
        except (NotPublishedError, ApiUnavailableError, SignInError) as error:
            gone = str(error) if isinstance(error, ApiUnavailableError) else ""
            _report_refused(entry.line, entry.event.title, entry.uid, str(error))
        else:
            published += 1
            notes = f"  ({'; '.join(entry.notes)})" if entry.notes else ""
            print(f"published  event {event_id}  {entry.event.title!r}{notes}")
    refused = len(reading.refusals) + len(reading.entries) - published
    print(f"{published} published, {refused} not taken.")
    return 1 if refused else 0


def _report_refused(line: int, summary: str, uid: str, reason: str) -> None:
    print(f"not taken  line {line}  {summary or '(no title)'!r}  [{uid or 'no UID'}]: {reason}")
