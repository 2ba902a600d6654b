"""JSON that only SQL can have written is read all the same."""

from sqlalchemy import text, update

from app_db import Database
from app_db.jobs.outbox import enqueue
from app_db.jobs.payload import JobPayload
from app_db.models import Job


class Counted(JobPayload):
    """A job with a number."""

    kind = "test.counted"
    number: int


async def test_a_number_with_more_digits_than_python_reads_is_read_as_text(database: Database) -> None:
    digits = "9" * 5000
    async with database.unit_of_work() as session:
        job_id = await enqueue(session, Counted(number=1))
        stored = f'{{"number": {digits}, "other": 7}}'
        await session.execute(update(Job).where(Job.id == job_id).values(payload=text(f"'{stored}'::jsonb")))

    async with database.unit_of_work(read_only=True) as session:
        job = await session.get_one(Job, job_id)

    assert job.payload == {"number": digits, "other": 7}
