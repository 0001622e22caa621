"""From a calendar's free-text categories to one of the platform's and tags."""

from __future__ import annotations

import re
from collections.abc import Iterable
from itertools import chain

FALLBACK = "community"

# Words of a category, in lower case, that decide. The platform's own names are among them.
_WORDS = {
    "tech": "tech technology software programming developer developers coding computer computing it data cloud devops "
    "hackathon ai security opensource python java javascript linux",
    "business": "business startup startups finance marketing networking sales management entrepreneurship career "
    "careers trade",
    "arts": "arts art theatre theater film cinema movie movies dance exhibition museum gallery literature photography "
    "culture crafts comedy",
    "sports": "sports sport football soccer basketball tennis running run marathon cycling swimming climbing hiking "
    "match league",
    "music": "music concert concerts band jazz opera choir gig festival club dj recital",
    "food": "food wine beer cooking dining dinner tasting restaurant brunch culinary",
    "health": "health wellness yoga meditation medical medicine fitness mindfulness nutrition",
    "education": "education lecture lectures course class seminar workshop training talk talks science school "
    "university conference tutorial webinar",
    "community": "community social meetup neighbourhood neighborhood family kids charity volunteering holiday holidays",
}
_CATEGORY_OF = {word: category for category, words in _WORDS.items() for word in words.split()}


def choose_category(labels: Iterable[str]) -> tuple[str, list[str]]:
    """The category that a label names, or else that the first telling one means; and the labels that name none.

    >>> choose_category(["Live Music", "Berlin"])
    ('music', ['live music', 'berlin'])
    >>> choose_category(["Conference", "Tech"])
    ('tech', ['conference'])
    """
    names = list(dict.fromkeys(" ".join(label.lower().split()) for label in labels if label.strip()))
    named = (name for name in names if name in _WORDS)
    meant = (_CATEGORY_OF[word] for name in names for word in re.findall(r"\w+", name) if word in _CATEGORY_OF)
    return next(chain(named, meant), FALLBACK), [name for name in names if name not in _WORDS]
