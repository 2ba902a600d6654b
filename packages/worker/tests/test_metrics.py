"""The metrics of a worker."""

from datetime import UTC, datetime
from typing import Any

import pytest
from prometheus_client import generate_latest

from app_db.models import JobState
from app_db.repositories.job_views import QueueOverview
from app_worker.metrics import OUTCOMES, Metrics


@pytest.fixture
def metrics() -> Metrics:
    return Metrics(kinds=["mail"], queues=["default"])


def value(metrics: Metrics, name: str, **labels: str) -> float | None:
    return metrics.registry.get_sample_value(name, labels)


def test_a_start_is_counted_by_kind(metrics: Metrics) -> None:
    metrics.started("mail")

    assert value(metrics, "app_jobs_started_total", kind="mail") == 1


def test_an_end_is_counted_by_kind_and_outcome(metrics: Metrics) -> None:
    metrics.finished("mail", "completed", 0.2)

    assert value(metrics, "app_jobs_finished_total", kind="mail", outcome="completed") == 1


def test_the_run_time_of_a_job_goes_into_a_histogram(metrics: Metrics) -> None:
    metrics.finished("mail", "failed", 0.2)

    assert value(metrics, "app_job_run_seconds_sum", kind="mail") == 0.2
    assert value(metrics, "app_job_run_seconds_bucket", kind="mail", le="0.1") == 0
    assert value(metrics, "app_job_run_seconds_bucket", kind="mail", le="0.25") == 1


def test_all_kinds_without_a_handler_share_one_label(metrics: Metrics) -> None:
    for kind in ("typo", "from.tomorrow"):
        metrics.started(kind)
        metrics.finished(kind, "unknown", 0)

    assert value(metrics, "app_jobs_started_total", kind="unknown") == 2
    assert value(metrics, "app_jobs_finished_total", kind="unknown", outcome="unknown") == 2
    assert b"typo" not in generate_latest(metrics.registry)


def test_a_stale_delivery_is_counted(metrics: Metrics) -> None:
    metrics.stale()

    assert value(metrics, "app_job_deliveries_stale_total") == 1


def test_a_clock_that_went_back_is_counted(metrics: Metrics) -> None:
    metrics.clock_went_back()

    assert value(metrics, "app_job_clock_steps_total") == 1


def test_jobs_that_are_claimed_again_are_counted_apart(metrics: Metrics) -> None:
    metrics.claimed("default", 5, redelivered=2, crashed=1)

    assert value(metrics, "app_jobs_claimed_total", queue="default") == 5
    assert value(metrics, "app_job_redeliveries_total", queue="default") == 2
    assert value(metrics, "app_job_crashes_total", queue="default") == 1


def test_how_many_jobs_a_claim_gets_can_be_told(metrics: Metrics) -> None:
    for count in (0, 5, 10):
        metrics.claimed("default", count)

    assert value(metrics, "app_job_claims_total", queue="default") == 2
    assert value(metrics, "app_jobs_claimed_total", queue="default") == 15


def test_the_delivery_queue_shows_its_last_size(metrics: Metrics) -> None:
    for size in (7, 3):
        metrics.deliveries_waiting("default", size)

    assert value(metrics, "app_job_deliveries_waiting", queue="default") == 3


def test_a_rate_can_rise_from_zero(metrics: Metrics) -> None:
    zeros = [
        value(metrics, "app_jobs_started_total", kind="mail"),
        *(value(metrics, "app_jobs_finished_total", kind="mail", outcome=outcome) for outcome in OUTCOMES),
        value(metrics, "app_job_run_seconds_count", kind="mail"),
        value(metrics, "app_jobs_claimed_total", queue="default"),
        value(metrics, "app_job_redeliveries_total", queue="default"),
        value(metrics, "app_job_crashes_total", queue="default"),
    ]

    assert set(zeros) == {0.0}


def queue(**different: Any) -> QueueOverview:
    figures: dict[str, Any] = {"paused_at": None, "max_running": None, "workers": 1, "counts": {}}
    return QueueOverview("default", **{**figures, "oldest_due_age": None, **different})


def test_a_queue_is_shown_as_the_ledger_has_it(metrics: Metrics) -> None:
    metrics.ledger.queues = [queue(workers=2, counts={JobState.AVAILABLE: 3}, oldest_due_age=4.5)]

    assert value(metrics, "app_job_queue_age_seconds", queue="default") == 4.5
    assert value(metrics, "app_job_queue_workers", queue="default") == 2
    assert value(metrics, "app_job_queue_paused", queue="default") == 0
    assert value(metrics, "app_jobs_open", queue="default", state="available") == 3


def test_a_queue_that_is_paused_says_so(metrics: Metrics) -> None:
    metrics.ledger.queues = [queue(paused_at=datetime(2026, 1, 1, tzinfo=UTC))]

    assert value(metrics, "app_job_queue_paused", queue="default") == 1


def test_a_queue_without_jobs_is_at_zero(metrics: Metrics) -> None:
    metrics.ledger.queues = [queue()]

    assert value(metrics, "app_job_queue_age_seconds", queue="default") == 0
    assert value(metrics, "app_jobs_open", queue="default", state="executing") == 0
    assert value(metrics, "app_jobs_open", queue="default", state="completed") is None


def test_a_queue_that_is_gone_is_not_shown(metrics: Metrics) -> None:
    metrics.ledger.queues = [queue()]
    metrics.ledger.queues = []

    assert value(metrics, "app_job_queue_age_seconds", queue="default") is None


def test_two_workers_count_apart(metrics: Metrics) -> None:
    other = Metrics(kinds=["mail"], queues=["default"])

    metrics.started("mail")

    assert value(other, "app_jobs_started_total", kind="mail") == 0


def test_a_counter_is_one_series(metrics: Metrics) -> None:
    assert b"_created" not in generate_latest(metrics.registry)
