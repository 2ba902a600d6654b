"""The metrics of a worker, for Prometheus (docs/how-to/operating-jobs.md lists them)."""

from collections.abc import Iterable, Iterator, Mapping, Sequence

from prometheus_client import CollectorRegistry, Gauge
from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from app_db.models import OPEN_STATES
from app_db.repositories.job_views import QueueOverview
from app_runtime.telemetry.series import Counter, Histogram

UNKNOWN_KIND = "unknown"
"""The label of all kinds without a handler: their names come from the rows, so there may be any number of them."""

OUTCOMES = (
    "completed",
    "failed",  # and will be tried again
    "discarded",
    "cancelled",
    "snoozed",
    "given_back",  # the worker stopped, or the database went away
    "fenced",  # another worker had the job by then; the writes of this attempt were rolled back
    "unknown",  # put back for a worker that knows its kind, or its payload
)
"""The outcomes of a start."""

MAIL_OUTCOMES = (
    "sent",
    "undeliverable",  # the recipient, or the mail itself, was refused for good
    "deferred",  # the server cannot accept it now
    "server_refuses",  # it refuses every mail of ours: sign-in, sender, TLS
    "unreachable",
    "unanswered",  # the server may have accepted it
    "failed",  # in a mailer of your own, or before the mail was composed
)
"""The outcomes of a mail."""

RUN_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800)


class Metrics:
    """The metrics of one worker process. All methods may be called at any rate and never fail."""

    def __init__(self, *, kinds: Iterable[str], queues: Iterable[str]) -> None:
        """Create all known series with 0, because a rate needs the value from which the series rises.

        Args:
            kinds: the kinds that this worker has a handler for.
            queues: the queues that it serves.
        """
        self.registry = CollectorRegistry()
        self.kinds = tuple(kinds)
        self._kinds = {*self.kinds, UNKNOWN_KIND}
        self._started = Counter("app_jobs_started", "Jobs started.", ["kind"], registry=self.registry)
        self._finished = Counter(
            "app_jobs_finished", "Starts that have ended.", ["kind", "outcome"], registry=self.registry
        )
        self._run = Histogram(
            "app_job_run_seconds", "From start to end.", ["kind"], buckets=RUN_SECONDS, registry=self.registry
        )
        self._mails = Counter("app_mails", "Mails, by what became of them.", ["outcome"], registry=self.registry)
        self._count_deliveries()
        self.ledger = LedgerCollector()
        self.registry.register(self.ledger)
        self._start_at_zero(queues)

    def _count_deliveries(self) -> None:
        self._stale = Counter(
            "app_job_deliveries_stale", "Deliveries dropped: the job had moved on.", registry=self.registry
        )
        self._claimed = Counter(
            "app_jobs_claimed", "Jobs claimed and put into the delivery queue.", ["queue"], registry=self.registry
        )
        self._claims = Counter("app_job_claims", "Claims that got at least one job.", ["queue"], registry=self.registry)
        self._redelivered = Counter(
            "app_job_redeliveries", "Claimed again: the last delivery was never started.", ["queue"],
            registry=self.registry,
        )  # fmt: skip
        self._crashed = Counter(
            "app_job_crashes", "Claimed again: their worker vanished while they ran.", ["queue"],
            registry=self.registry,
        )  # fmt: skip
        self._waiting = Gauge(
            "app_job_deliveries_waiting", "Deliveries that wait in Valkey.", ["queue"], registry=self.registry
        )
        self._clock_steps = Counter(
            "app_job_clock_steps",
            "Times that the clock of Postgres was found to have gone back.",
            registry=self.registry,
        )

    def started(self, kind: str) -> None:
        """Count a job that starts to run."""
        self._started.labels(self._label(kind)).inc()

    def finished(self, kind: str, outcome: str, seconds: float) -> None:
        """Count a job that does not run any more, `seconds` after `started`; `outcome` is one of OUTCOMES."""
        label = self._label(kind)
        self._finished.labels(label, outcome).inc()
        self._run.labels(label).observe(seconds)

    def stale(self) -> None:
        """Count a delivery that was dropped because its job had moved on."""
        self._stale.inc()

    def claimed(self, queue: str, count: int, *, redelivered: int = 0, crashed: int = 0) -> None:
        """Count jobs claimed and put into the delivery queue; `redelivered` and `crashed` of them once more."""
        self._claims.labels(queue).inc(count > 0)
        self._claimed.labels(queue).inc(count)
        self._redelivered.labels(queue).inc(redelivered)
        self._crashed.labels(queue).inc(crashed)

    def clock_went_back(self) -> None:
        """Count that Postgres's clock was found to have gone back."""
        self._clock_steps.inc()

    def deliveries_waiting(self, queue: str, size: int) -> None:
        """Show how many deliveries wait in Valkey for a worker."""
        self._waiting.labels(queue).set(size)

    def mail(self, outcome: str) -> None:
        """Count a mail that was to be sent; `outcome` is one of MAIL_OUTCOMES."""
        self._mails.labels(outcome).inc()

    def _label(self, kind: str) -> str:
        return kind if kind in self._kinds else UNKNOWN_KIND

    def _start_at_zero(self, queues: Iterable[str]) -> None:
        for kind in self._kinds:
            self._started.labels(kind)
            self._run.labels(kind)
            for outcome in OUTCOMES:
                self._finished.labels(kind, outcome)
        for outcome in MAIL_OUTCOMES:
            self._mails.labels(outcome)
        for queue in queues:
            self.claimed(queue, 0)


class LedgerCollector(Collector):
    """Exports the last figures that were read from the ledger; none for queues that are gone, or during an outage."""

    def __init__(self) -> None:
        self.queues: Sequence[QueueOverview] = ()
        self.dead_tuples: int | None = None
        self.oldest_xmin_age: int | None = None
        self.prunes: Mapping[str, float] = {}

    def collect(self) -> Iterator[Metric]:
        """Yield figures of the queues, which are the same in every worker."""
        age = GaugeMetricFamily("app_job_queue_age_seconds", "How long the oldest job is due.", labels=["queue"])
        paused = GaugeMetricFamily("app_job_queue_paused", "1 if an operator paused it.", labels=["queue"])
        workers = GaugeMetricFamily("app_job_queue_workers", "Workers that serve it and live.", labels=["queue"])
        open_jobs = GaugeMetricFamily("app_jobs_open", "Jobs that are not finished.", labels=["queue", "state"])
        for queue in self.queues:
            age.add_metric([queue.name], queue.oldest_due_age or 0)
            paused.add_metric([queue.name], queue.paused_at is not None)
            workers.add_metric([queue.name], queue.workers)
            for state in sorted(OPEN_STATES):
                open_jobs.add_metric([queue.name, state], queue.counts.get(state, 0))
        yield from (age, paused, workers, open_jobs)
        prunes = GaugeMetricFamily(
            "app_job_prune_age_seconds", "Since it last deleted all that is old.", labels=["kind"]
        )
        for kind, seconds in self.prunes.items():
            prunes.add_metric([kind], seconds)
        yield prunes
        if self.dead_tuples is not None:
            yield GaugeMetricFamily("app_job_dead_tuples", "Rows of jobs that wait for vacuum.", self.dead_tuples)
        if self.oldest_xmin_age is not None:
            yield GaugeMetricFamily(
                "app_db_oldest_xmin_age", "Transactions since the oldest that vacuum spares.", self.oldest_xmin_age
            )
