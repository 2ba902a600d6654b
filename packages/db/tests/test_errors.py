"""Errors that callers can be told about, and the way from a constraint to one of them."""

import pytest
from sqlalchemy.exc import IntegrityError

from app_db import Database, Session
from app_db.errors import AppError, Conflict, NotFound
from app_db.models import JobCancellation, JobQueue
from app_db.types import new_id
from app_db.violations import violation_as


class QueueThere(Conflict):
    """The queue is there."""

    code = "queue_there"


class Plain(AppError):
    code = "plain"


async def test_a_violation_of_the_named_constraint_becomes_the_error(session: Session) -> None:
    session.add_all([JobQueue(name="mail"), JobQueue(name="mail")])

    with pytest.raises(QueueThere), violation_as(QueueThere, of="pk_job_queues"):
        await session.flush()


async def test_a_violation_of_another_constraint_passes_through(session: Session) -> None:
    session.add(JobCancellation(job_id=new_id()))

    with (
        pytest.raises(IntegrityError, match="fk_job_cancellations_job_id_jobs"),
        violation_as(QueueThere, of="pk_job_queues"),
    ):
        await session.flush()


async def test_an_error_without_a_violation_passes_through() -> None:
    with pytest.raises(NotFound), violation_as(QueueThere, of="pk_job_queues"):
        raise NotFound


def test_an_error_is_described_by_its_docstring() -> None:
    assert QueueThere.describe() == "The queue is there."


def test_an_error_without_a_docstring_is_described_by_its_code() -> None:
    assert Plain.describe() == "plain"


async def test_an_error_leaves_nothing_to_be_written_unless_it_says_so(database: Database, session: Session) -> None:
    await NotFound().aftermath(session)

    assert not session.in_transaction()
