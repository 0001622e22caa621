"""Demo data: a believable season of events in real cities, loaded through the services that the API uses.

`load` writes it into an empty database, `is_empty` tells whether one is. The accounts anyone can sign in with are in
`local.demo.accounts`.
"""

from local.demo.command import add_parser, progress_bar, run
from local.demo.loading import DemoReport, NotEmptyError, is_empty, load

__all__ = ["DemoReport", "NotEmptyError", "add_parser", "is_empty", "load", "progress_bar", "run"]
