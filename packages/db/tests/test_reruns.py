"""Jobs that are made from others, and the links between them."""

from sqlalchemy import delete, select, text

from app_db import Session
from app_db.jobs.outbox import enqueue
from app_db.jobs.payload import JobPayload
from app_db.jobs.reruns import MOST_RERUNS, links_of, run_again
from app_db.models import Job
from app_db.repositories.jobs import JobRepository
from app_db.types import new_id


class Feed(JobPayload):
    kind = "test.feed"
    pet: str


async def job_of(session: Session, pet: str = "Rex") -> Job:
    job_id = await enqueue(session, Feed(pet=pet), queue="slow", priority=9, max_attempts=4, owner_id=new_id())
    job = await JobRepository(session).get(job_id)
    assert job is not None
    return job


async def test_a_rerun_takes_the_terms_of_the_first_job_and_leaves_it_alone(session: Session) -> None:
    first, owner_id = await job_of(session), new_id()

    new_job_id = await run_again(session, first, Feed(pet="Ada"), owner_id=owner_id)

    new = await JobRepository(session).get(new_job_id)
    assert new is not None
    assert (new.kind, new.payload, new.queue, new.priority, new.max_attempts, new.owner_id, new.origin_id) == (
        "test.feed", {"pet": "Ada"}, "slow", 9, 4, owner_id, first.id,
    )  # fmt: skip
    again = await JobRepository(session).get(first.id)
    assert again is not None
    assert (again.payload, again.origin_id) == ({"pet": "Rex"}, None)


async def test_the_newest_reruns_are_found_and_no_more_than_fit(session: Session) -> None:
    first = await job_of(session)
    made = [await run_again(session, first, Feed(pet="Ada"), owner_id=None) for _ in range(MOST_RERUNS + 2)]

    links = await links_of(session, first)

    assert links.origin is None
    assert [each.id for each in links.reruns] == sorted(made, reverse=True)[:MOST_RERUNS]


async def test_a_first_job_that_was_deleted_is_not_found(session: Session) -> None:
    first = await job_of(session)
    new = await JobRepository(session).get(await run_again(session, first, Feed(pet="Ada"), owner_id=None))
    assert new is not None

    before = await links_of(session, new)
    await session.execute(delete(Job).where(Job.id == first.id))
    after = await links_of(session, new)

    assert before.origin is not None
    assert before.origin.id == first.id
    assert (after.origin, new.origin_id) == (None, first.id)


async def test_reruns_are_found_by_their_own_index(session: Session) -> None:
    await session.execute(text("SET LOCAL enable_seqscan = off"))
    newest = select(Job.id).where(Job.origin_id == new_id()).order_by(Job.id.desc())
    sql = newest.compile(session.get_bind(), compile_kwargs={"literal_binds": True})

    plan = "\n".join(await session.scalars(text(f"EXPLAIN {sql}")))

    assert "ix_jobs_origin_id_id" in plan
