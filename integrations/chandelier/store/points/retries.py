"""When what a client could not do is asked again."""

from __future__ import annotations

import random
from typing import Protocol

__all__ = ["Patience", "backoff"]

DOUBLED = 16
"""How often a wait is doubled at most: a float overflows after a thousand times, which a patient store reaches."""


class Patience(Protocol):
    """How long a call that fails is asked again."""

    def wait(self, error: Exception, tried: int) -> float | None:
        """Seconds until the next try, after so many that failed before this one; None if there is none."""


def backoff(tried: int, *, first: float, longest: float) -> float:
    """Seconds until the next try: doubled each time, and up to a half less at random.

    Examples:
        >>> 0.5 <= backoff(1, first=0.5, longest=30.0) <= 1 and 15 <= backoff(5_000, first=0.5, longest=30.0) <= 30
        True
    """
    return min(longest, first * 2.0 ** min(tried, DOUBLED)) * random.uniform(0.5, 1.0)
