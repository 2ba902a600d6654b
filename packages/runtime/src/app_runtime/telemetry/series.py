"""Counters and histograms without the extra series of their creation times, which nobody needs."""

from prometheus_client import Counter, Histogram
from prometheus_client import disable_created_metrics as _disable_created_metrics

__all__ = ("Counter", "Histogram")

# This counts for the whole process, and only for later metrics: so all code imports them from here.
_disable_created_metrics()  # type: ignore[no-untyped-call]  # no types of its own
