"""Whether a worker can run jobs: Postgres hears it and has the schema, Valkey answers, and its event loop runs."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from app_db.jobs.leadership import Leadership
from app_runtime.telemetry.endpoint import Health
from app_runtime.telemetry.lag import LoopLag
from app_worker.settings import JobSettings

BLOCKED = "The event loop is blocked."
NO_BEAT = "No heartbeat has reached the database yet{}."
DEAF = "This worker could neither listen for jobs nor lead a queue for longer than a lease{}."


@dataclass(slots=True, eq=False)
class WorkerHealth(Collector):
    """The health of this process; its times are seconds of `time.monotonic()`.

    The event loop writes the fields, and the threads of the endpoint read them one at a time, without a lock.
    """

    beat_at: float = field(default_factory=time.monotonic)
    """When Postgres last took a heartbeat; before the first one, the start."""
    has_beaten: bool = False
    """Whether Postgres has taken a heartbeat."""
    has_schema: bool | None = None
    """Whether the schema has the revisions that this release needs, once Postgres has said so."""
    valkey_answers: Callable[[], bool] = lambda: False
    """Whether Valkey answered when an executor last asked it for jobs."""
    valkey_refuses: Callable[[], bool] = lambda: False
    """Whether Valkey took no deliveries of this worker when there were some."""
    leadership: Leadership | None = None
    """Listens for notifications, and holds the locks of the queues."""
    refusal: str = ""
    """Why the database takes no heartbeat, if a pooler is the reason."""
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
            return BLOCKED
        if self.has_schema is False:
            return "The schema is older than this release."  # guard: test_a_worker_without_its_schema_is_not_well
        if not self.has_beaten:
            why = self.refusal and f": {self.refusal}"  # guard: test_a_worker_behind_a_pooler_says_what_to_set
            return NO_BEAT.format(why)  # guard: test_a_worker_without_a_first_beat_is_not_well
        if self.beat_age > settings.lease.total_seconds():
            return "No heartbeat has reached the database for longer than a lease."
        return self._leadership_complaint(settings) or self._valkey_complaint()

    def _leadership_complaint(self, settings: JobSettings) -> str | None:
        if self.leadership is None or self.draining or self.leadership.lost_for <= settings.lease.total_seconds():
            return None
        why = self.leadership.refusal and f": {self.leadership.refusal}"
        return DEAF.format(why)  # guard: test_a_worker_that_can_neither_listen_nor_lead_is_not_well

    def _valkey_complaint(self) -> str | None:
        if not self.valkey_answers():
            return "Valkey does not answer, so jobs wait."  # guard: test_a_worker_without_valkey_is_not_well
        if self.valkey_refuses():
            return "Valkey takes no deliveries, so jobs wait."  # guard: test_a_valkey_that_is_full_is_seen
        return None

    def report(self, settings: JobSettings) -> Health:
        """Return the reply of `/health`; no restart brings back Postgres or Valkey."""
        signs = {
            "queues": settings.queues,
            "running": self.running,
            "draining": self.draining,
            "beat_age_seconds": round(self.beat_age, 3),
            "loop_lag_seconds": round(self.loop.seconds, 3),
        }
        complaint = self.complaint(settings)
        return Health(signs, complaint, restart_helps=complaint == BLOCKED)

    def collect(self) -> Iterator[Metric]:
        """Yield `app_worker_beat_age_seconds`, `app_worker_loop_lag_seconds` and `app_worker_jobs_running`."""
        yield GaugeMetricFamily("app_worker_beat_age_seconds", "Since Postgres took a heartbeat.", self.beat_age)
        yield GaugeMetricFamily("app_worker_loop_lag_seconds", "Since the event loop is blocked.", self.loop.seconds)
        yield GaugeMetricFamily("app_worker_jobs_running", "Jobs that run now.", self.running)
