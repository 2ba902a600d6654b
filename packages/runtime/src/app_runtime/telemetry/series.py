"""Counters and histograms, each without the second series of when it began, which nothing here needs."""

from prometheus_client import Counter, Histogram
from prometheus_client import disable_created_metrics as _disable_created_metrics

__all__ = ("Counter", "Histogram")

# For the whole process, and before the first of them is made: so they come from here.
_disable_created_metrics()  # type: ignore[no-untyped-call]  # no types of its own
