"""Demo data: a believable season of events in real cities, loaded through the services that the API uses.

`load` writes it into an empty database, `is_empty` tells whether one is. The accounts anyone can sign in with are in
`local.demo.accounts`.
"""

from local.demo.loading import DemoReport, NotEmptyError, is_empty, load

__all__ = ["DemoReport", "NotEmptyError", "is_empty", "load"]
