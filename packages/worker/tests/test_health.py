"""The health that a worker reports."""

import time
from datetime import timedelta
from typing import Any

import pytest
from pydantic import ValidationError

from app_db.jobs.leadership import Leadership
from app_db.pooler import IN_THE_WAY
from app_runtime.telemetry.lag import LoopLag
from app_worker.health import WorkerHealth
from app_worker.settings import JobSettings

SECOND = timedelta(seconds=1)
SETTINGS = JobSettings(lease=timedelta(seconds=15))


def well(**different: Any) -> WorkerHealth:
    """The health of a worker that can run jobs."""
    return WorkerHealth(**{"has_beaten": True, "has_schema": True, "valkey_answers": lambda: True, **different})


def test_a_worker_that_beats_is_well() -> None:
    report = well(running=3).report(SETTINGS)

    assert report.complaint is None
    assert {**report.signs, "beat_age_seconds": None} == {
        "queues": ("default",),
        "running": 3,
        "draining": False,
        "beat_age_seconds": None,
        "loop_lag_seconds": 0.0,
    }


def test_a_worker_that_drains_is_well() -> None:
    report = well(draining=True).report(SETTINGS)

    assert (report.complaint, report.signs["draining"]) == (None, True)


def test_a_worker_without_a_heartbeat_for_a_lease_is_not_well() -> None:
    health = well(beat_at=time.monotonic() - SETTINGS.lease.total_seconds() - 1)

    assert health.report(SETTINGS).complaint == "No heartbeat has reached the database for longer than a lease."


def test_a_worker_whose_loop_stands_still_for_a_beat_is_not_well() -> None:
    health = well(loop=LoopLag(time.monotonic() - SETTINGS.beat.total_seconds() - 2))

    assert health.report(SETTINGS).complaint == "The event loop is blocked."
    assert health.report(SETTINGS).restart_helps


@pytest.mark.parametrize(
    "lacking",
    [
        {"has_schema": False},
        {"has_beaten": False},
        {"beat_at": time.monotonic() - SETTINGS.lease.total_seconds() - 1},
        {"valkey_answers": lambda: False},
        {"valkey_refuses": lambda: True},
    ],
    ids=lambda lacking: next(iter(lacking)),
)
def test_no_restart_brings_back_what_a_worker_needs(lacking: dict[str, Any]) -> None:
    report = well(**lacking).report(SETTINGS)

    assert (report.complaint is None, report.restart_helps) == (False, False)


def test_a_worker_that_can_neither_listen_nor_lead_is_not_well() -> None:
    leadership = Leadership("postgresql:///none", ["default"], connect_timeout=SECOND, on_notification=lambda: None)
    assert well(leadership=leadership).report(SETTINGS).complaint is None
    leadership._well_at -= SETTINGS.lease.total_seconds() + 1

    assert well(leadership=leadership, draining=True).report(SETTINGS).complaint is None
    deaf = "This worker could neither listen for jobs nor lead a queue for longer than a lease"
    assert well(leadership=leadership).report(SETTINGS).complaint == f"{deaf}."
    leadership.refusal = IN_THE_WAY
    assert well(leadership=leadership).report(SETTINGS).complaint == f"{deaf}: {IN_THE_WAY}."


@pytest.mark.parametrize("lease", ["PT0.5S", "PT61M"])
def test_a_lease_is_as_long_as_the_ledger_believes(lease: str) -> None:
    """A lease that ends further ahead is taken for one written by a fast clock, and ended (app_db.jobs.clock_steps)."""
    with pytest.raises(ValidationError, match="lease"):
        JobSettings.model_validate({"lease": lease})
