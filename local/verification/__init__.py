"""Whether every projection is what the event store says: the tables, the counters, other services' copies, the index.

Each aggregate of the outbox is folded and compared with its row, and what is projected from it with the fold. All of
PostgreSQL is read in one snapshot, in which a change and its outbox row are there together or not at all: what does
not agree there is wrong at once. What is told by message may be behind for a moment, and is looked at again.
"""

from local.verification.comparison import Difference
from local.verification.verifying import Report, verify

__all__ = ["Difference", "Report", "verify"]
