"""Sliding windows in the memory of this process."""

from collections import OrderedDict
from collections.abc import Sequence

from app_auth.limits import Hit

MOST_BUCKETS = 50_000


class LocalWindows:
    """The last hits of each bucket, as many as its limit allows; beyond `most` buckets, the oldest are forgotten.

    No method awaits, so calls are atomic on one event loop.
    """

    def __init__(self, *, most: int = MOST_BUCKETS) -> None:
        self._stamps: OrderedDict[str, list[float]] = OrderedDict()
        self._most = most

    def __len__(self) -> int:
        """How many buckets are remembered."""
        return len(self._stamps)

    def hit(self, hits: Sequence[Hit], *, now: float) -> float:
        """Count all hits and return 0, or none of them and return the seconds until they would all be allowed."""
        wait = max(self._wait(hit, now) for hit in hits)
        if wait > 0:
            return wait
        for hit in hits:
            stamps = self._stamps.setdefault(hit.key, [])
            stamps.append(now)
            del stamps[: -hit.limit.count]
            self._stamps.move_to_end(hit.key)
        while len(self._stamps) > self._most:
            self._stamps.popitem(last=False)  # guard: test_the_memory_of_the_limiter_is_bounded
        return 0.0

    def give_back(self, hits: Sequence[Hit], *, stamp: float) -> None:
        """Remove the hit that was counted at `stamp`."""
        for hit in hits:
            stamps = self._stamps.get(hit.key, [])
            if stamp in stamps:
                stamps.remove(stamp)
            if not stamps:
                self._stamps.pop(hit.key, None)

    def _wait(self, hit: Hit, now: float) -> float:
        stamps = self._stamps.get(hit.key, [])
        full = len(stamps) >= hit.limit.count
        return max(0.0, stamps[-hit.limit.count] + hit.limit.seconds - now) if full else 0.0
