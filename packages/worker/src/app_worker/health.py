"""Whether a worker is healthy: it can renew the leases of its jobs, and its event loop runs."""

import time
from collections.abc import Iterator
from dataclasses import dataclass, field

from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from app_runtime.telemetry.endpoint import Health
from app_runtime.telemetry.lag import LoopLag
from app_worker.settings import JobSettings


@dataclass(slots=True, eq=False)
class WorkerHealth(Collector):
    """The health of this process; its times are seconds of `time.monotonic()`.

    The event loop writes the fields, and the threads of the endpoint read them one at a time, without a lock.
    """

    beat_at: float = field(default_factory=time.monotonic)
    """When Postgres last took a heartbeat. A worker has one lease of time for its first heartbeat."""
    loop: LoopLag = field(default_factory=LoopLag)
    """How long the event loop has been blocked."""
    running: int = 0
    """Jobs that run now."""
    draining: bool = False
    """Whether the worker is stopping: it finishes its running jobs and starts no others."""

    @property
    def beat_age(self) -> float:
        """Seconds since the last heartbeat."""
        return time.monotonic() - self.beat_at

    def complaint(self, settings: JobSettings) -> str | None:
        """Return what is wrong with this worker, or None."""
        if self.loop.seconds > settings.beat.total_seconds():
            return "The event loop is blocked."
        if self.beat_age > settings.lease.total_seconds():
            return "No heartbeat has reached the database for longer than a lease."
        return None

    def report(self, settings: JobSettings) -> Health:
        """Return the reply of `/health`."""
        signs = {
            "queues": settings.queues,
            "running": self.running,
            "draining": self.draining,
            "beat_age_seconds": round(self.beat_age, 3),
            "loop_lag_seconds": round(self.loop.seconds, 3),
        }
        return Health(signs, self.complaint(settings))

    def collect(self) -> Iterator[Metric]:
        """Yield `app_worker_beat_age_seconds`, `app_worker_loop_lag_seconds` and `app_worker_jobs_running`."""
        yield GaugeMetricFamily("app_worker_beat_age_seconds", "Since Postgres took a heartbeat.", self.beat_age)
        yield GaugeMetricFamily("app_worker_loop_lag_seconds", "Since the event loop is blocked.", self.loop.seconds)
        yield GaugeMetricFamily("app_worker_jobs_running", "Jobs that run now.", self.running)
