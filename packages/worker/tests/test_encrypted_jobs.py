"""Jobs with encrypted payloads: what they leave in the ledger, and what their handlers get."""

import os
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import pytest
import pytest_asyncio
from pydantic import BaseModel

from app_db import Database, open_database
from app_db.jobs.batches import enqueue_batch, enqueue_chain
from app_db.jobs.encryption import NO_KEYS, JobCipher, NoPayloadKeys, PayloadKeys, keys_of
from app_db.jobs.erasure import erase_traces
from app_db.jobs.ledger import Delivery
from app_db.jobs.limits import Limit
from app_db.jobs.outbox import enqueue_many
from app_db.jobs.payload import JobPayload
from app_db.jobs.reruns import run_again
from app_db.jobs.unique import Unique
from app_db.models import JobState
from app_db.settings import DatabaseSettings
from app_db.testing.jobs import assert_enqueued, line_of
from app_db.types import new_id
from app_runtime.configuration import Misconfigured
from app_worker.context import JobContext
from app_worker.handlers import HANDLERS
from app_worker.process import run_worker
from app_worker.registry import Handler, Mode, handles
from app_worker.schedule import Cron, enqueue_job_of
from app_worker.settings import WorkerSettings
from app_worker.testing import drain, inline, one_time_settings

from .conftest import Jobs, MakeRunner, Note

MARKER = "marker-4929-secret"
OLD, NEW = os.urandom(32), os.urandom(32)


class Charge(JobPayload, encrypted=True):
    kind = "test.charge"
    card: str = MARKER
    cents: int = 5


class Refund(Charge):
    kind = "test.refund"


class Receipt(BaseModel):
    number: int


@handles(Charge)
async def charge(job: JobContext, payload: Charge) -> dict[str, Any]:
    return {"receipt": payload.card}


@handles(Charge, mode=Mode.LEASE)
async def charge_by_steps(job: JobContext, payload: Charge) -> dict[str, Any]:
    async with job.step("authorise") as step:
        if step.is_due:
            step.result = {"token": payload.card}
    async with job.transaction(cursor={"at": payload.card}):
        pass
    if job.attempt == 1:
        raise ConnectionError("the bank is away")
    return {"receipt": step.result["token"], "at": job.cursor["at"]}


@handles(Charge, max_attempts=1)
async def check(job: JobContext, payload: Charge) -> None:
    Receipt.model_validate({"number": payload.card})


@pytest_asyncio.fixture(loop_scope="session")
async def process(database: Database, database_settings: DatabaseSettings) -> AsyncIterator[Database]:
    """Another process, which has no keys yet."""
    async with open_database(database_settings, name="another") as other:
        yield other


async def all_columns(jobs: Jobs) -> str:
    """Return all that a dump of the ledger has, as text."""
    parts = [
        await jobs.scalar(f"SELECT coalesce(string_agg(CAST({table} AS text), ' '), '') FROM {table}")
        for table in ("jobs", "job_errors", "job_crons", "audit_events")
    ]
    return " ".join(parts)


async def retried(jobs: Jobs, job_id: UUID, handler: Handler) -> None:
    await drain(jobs.database, handlers=[handler], keep_failures=True)
    await drain(jobs.database, handlers=[handler], with_scheduled=True)


async def test_a_handler_gets_what_the_ledger_never_shows(jobs: Jobs) -> None:
    job_id = await jobs.enqueue(Charge())

    assert await drain(jobs.database, handlers=[charge]) == {"completed": 1}

    job = await jobs.get(job_id)
    assert MARKER not in await all_columns(jobs)
    assert MARKER not in line_of(job)
    assert job.result is not None
    assert set(job.payload) == set(job.result) == {"$encrypted"}
    opened = jobs.database.payload_keys.open(job.result, job_id=job_id, kind=Charge.kind, part="result")
    assert opened == {"receipt": MARKER}


async def test_steps_and_cursor_are_encrypted_too_and_come_back(jobs: Jobs) -> None:
    job_id = await jobs.enqueue(Charge())

    await retried(jobs, job_id, charge_by_steps)

    job = await jobs.get(job_id)
    assert job.state is JobState.COMPLETED
    assert job.steps is not None
    assert [step["name"] for step in job.steps] == ["authorise"]
    assert MARKER not in await all_columns(jobs)
    opened = jobs.database.payload_keys.open(job.result or {}, job_id=job_id, kind=Charge.kind, part="result")
    assert opened == {"receipt": MARKER, "at": MARKER}


async def test_a_subclass_is_encrypted_as_its_base_is(jobs: Jobs) -> None:
    async with jobs.database.sessions.begin() as session:
        first, second = await enqueue_many(session, [Refund(), Charge(card=MARKER)])

    assert (await jobs.get(first)).kind == Refund.kind
    assert set((await jobs.get(second)).payload) == {"$encrypted"}
    assert MARKER not in await all_columns(jobs)
    await assert_enqueued(jobs.database, Refund, card=MARKER)
    async with jobs.database.sessions() as session:
        await assert_enqueued(session, Charge, cents=5)


async def test_jobs_of_chains_and_the_last_jobs_of_batches_are_encrypted(jobs: Jobs) -> None:
    async with jobs.database.sessions.begin() as session:
        await enqueue_chain(session, Charge(), Charge(cents=6))
        await enqueue_batch(session, [Charge()], then=Refund())
    waiting = [
        await jobs.scalar(f"SELECT string_agg(CAST({table} AS text), ' ') FROM {table}")
        for table in ("job_batches", "job_links")
    ]

    refund = handles(Refund)(charge.function)
    assert await drain(jobs.database, handlers=[charge, refund]) == {"completed": 4}

    assert MARKER not in " ".join([await all_columns(jobs), *waiting])


async def test_the_job_of_a_cron_is_encrypted(jobs: Jobs) -> None:
    async with jobs.database.sessions.begin() as session:
        await enqueue_job_of(session, Cron("test.charge", "0 0 * * *", Charge), None)

    assert MARKER not in await all_columns(jobs)
    assert await drain(jobs.database, handlers=[charge]) == {"completed": 1}


async def test_a_job_that_runs_inline_is_encrypted(jobs: Jobs) -> None:
    with inline(jobs.database, handlers=[charge]):
        job_id = await jobs.enqueue(Charge())

    assert (await jobs.get(job_id)).state is JobState.COMPLETED
    assert MARKER not in await all_columns(jobs)


async def test_errors_of_an_encrypted_job_quote_no_input(jobs: Jobs, capsys: pytest.CaptureFixture[str]) -> None:
    job_id = await jobs.enqueue(Charge())

    await drain(jobs.database, handlers=[check], keep_failures=True)

    [error] = await jobs.errors(Delivery(job_id, 0))
    assert "number" in error.error
    assert "input_value=…" in (error.trace or "")
    printed = capsys.readouterr()
    assert "job_ended" in printed.out + printed.err
    assert MARKER not in await all_columns(jobs) + printed.out + printed.err


async def test_an_envelope_that_was_moved_or_changed_is_refused(jobs: Jobs) -> None:
    first, second, third = [await jobs.enqueue(Charge(cents=number)) for number in range(3)]
    await jobs.execute(
        f"UPDATE jobs SET payload = (SELECT payload FROM jobs WHERE id = '{first}') WHERE id = '{second}'"
    )
    changed = "jsonb_set(payload, '{$encrypted,text}', '\"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\"')"
    await jobs.execute(f"UPDATE jobs SET payload = {changed} WHERE id = '{third}'")

    states = await drain(jobs.database, handlers=[charge], keep_failures=True)

    assert states == {"completed": 1, "retryable": 2}
    for job_id in (second, third):
        job = await jobs.get(job_id)
        assert job.attempt == 0
        assert "was changed, or moved" in (await jobs.errors(Delivery(job_id, 0)))[0].error


@pytest.mark.parametrize(
    "envelope",
    ["{}", '{"v": 2, "kid": "1", "nonce": "", "text": ""}', '{"v": 1, "kid": [], "nonce": "", "text": ""}', "7"],
)
async def test_an_envelope_of_another_shape_is_refused(jobs: Jobs, envelope: str) -> None:
    job_id = await jobs.enqueue(Charge())
    await jobs.execute(f"UPDATE jobs SET payload = jsonb_build_object('$encrypted', CAST('{envelope}' AS jsonb))")

    assert await drain(jobs.database, handlers=[charge], keep_failures=True) == {"retryable": 1}
    assert (await jobs.get(job_id)).attempt == 0


async def test_a_payload_that_waited_since_before_its_class_was_encrypted_is_read(jobs: Jobs) -> None:
    await jobs.enqueue(Charge())
    await jobs.execute("""UPDATE jobs SET payload = '{"card": "plain"}'""")

    assert await drain(jobs.database, handlers=[charge]) == {"completed": 1}


async def test_keys_turn_and_every_key_of_the_ring_decrypts(jobs: Jobs, process: Database) -> None:
    process.keep_secrets(PayloadKeys({"old": OLD}, active="old"))
    before = await Jobs(process).enqueue(Charge())
    process.keep_secrets(PayloadKeys({"old": OLD, "new": NEW}, active="new"))
    after = await Jobs(process).enqueue(Charge())

    kids = [(await jobs.get(job_id)).payload["$encrypted"]["kid"] for job_id in (before, after)]

    assert kids == ["old", "new"]
    assert await drain(process, handlers=[charge]) == {"completed": 2}


async def test_a_job_whose_key_is_gone_waits_for_it_and_pays_no_attempt(jobs: Jobs, process: Database) -> None:
    process.keep_secrets(PayloadKeys({"old": OLD}, active="old"))
    job_id = await Jobs(process).enqueue(Charge())
    process.keep_secrets(PayloadKeys({"new": NEW}, active="new"))

    assert await drain(process, handlers=[charge], keep_failures=True) == {"retryable": 1}

    assert (await jobs.get(job_id)).attempt == 0
    assert "the key old, which is not in APP_JOBS__KEYS" in (await jobs.errors(Delivery(job_id, 0)))[0].error
    process.keep_secrets(PayloadKeys({"old": OLD, "new": NEW}, active="new"))
    assert await drain(process, handlers=[charge], with_scheduled=True) == {"completed": 1}


async def test_an_encrypted_payload_is_not_enqueued_without_a_key(process: Database) -> None:
    with pytest.raises(NoPayloadKeys, match="set APP_JOBS__KEYS"):
        await Jobs(process).enqueue(Charge())
    with pytest.raises(NoPayloadKeys):
        await Jobs(process).enqueue(Charge(), unique=Unique())
    assert not NO_KEYS


async def test_an_encrypted_payload_that_is_refused_shows_no_value(jobs: Jobs) -> None:
    wrong_type: Any = MARKER
    wrong = Charge.model_construct(card=MARKER, cents=wrong_type)

    with pytest.raises(ValueError, match=r"^test\.charge: cents: int_parsing$") as refused:
        await jobs.enqueue(wrong)

    assert refused.value.__suppress_context__ or refused.value.__context__ is None
    with pytest.raises(ValueError, match=r"^test\.charge: ValueError$"):
        await jobs.enqueue(Charge(card=f"{MARKER}\0"))


async def test_a_stored_payload_that_does_not_fit_shows_no_value(jobs: Jobs) -> None:
    await jobs.enqueue(Charge())
    await jobs.execute(f"""UPDATE jobs SET payload = '{{"{MARKER}": 1, "card": 7}}'""")

    await drain(jobs.database, handlers=[charge], keep_failures=True)

    assert MARKER not in await jobs.scalar("SELECT error || trace FROM job_errors")


def test_an_encrypted_field_has_no_limit_of_its_own() -> None:
    with pytest.raises(TypeError, match="a limit per card would show it"):

        class Capture(Charge, limit=Limit(running=1, per="card")):
            kind = "test.capture"

    class Settle(Charge, limit=Limit(running=1, per="owner_id")):
        kind = "test.settle"

    assert Settle.is_encrypted


def test_an_encrypted_payload_has_no_repr() -> None:
    assert MARKER not in repr(Charge()) + str(Charge())


async def test_equal_encrypted_jobs_are_one_and_their_digest_cannot_be_guessed(jobs: Jobs, process: Database) -> None:
    first = await jobs.enqueue(Charge(), unique=Unique())

    assert await jobs.enqueue(Charge(), unique=Unique()) == first
    assert await jobs.enqueue(Charge(cents=6), unique=Unique()) != first
    assert (await jobs.get(first)).unique_key != Unique().digest(Charge())
    process.keep_secrets(PayloadKeys({"old": OLD}, active="old"))
    assert await Jobs(process).enqueue(Charge(), unique=Unique()) != first


async def test_equal_jobs_are_one_while_keys_turn(process: Database) -> None:
    process.keep_secrets(PayloadKeys({"old": OLD}, active="old"))
    first = await Jobs(process).enqueue(Charge(), unique=Unique())
    process.keep_secrets(PayloadKeys({"old": OLD, "new": NEW}, active="new"))
    assert await Jobs(process).enqueue(Charge(), unique=Unique()) == first

    process.keep_secrets(PayloadKeys({"old": OLD}, active="old"))
    await Jobs(process).execute("UPDATE jobs SET payload = jsonb_set(payload, '{$encrypted,kid}', '\"gone\"')")
    assert await Jobs(process).enqueue(Charge(), unique=Unique()) == first


async def test_an_encrypted_job_of_a_worker_that_was_killed_starts_again(jobs: Jobs, make_runner: MakeRunner) -> None:
    """A committed start that no process finishes is what kill -9 leaves behind."""
    killed = await jobs.deliver(Charge())
    await make_runner(charge_by_steps).leased.start(killed)

    await make_runner(charge_by_steps).run(await jobs.dispatch(killed.id))

    job = await jobs.get(killed)
    assert (job.state, job.attempt, job.crashes) == (JobState.RETRYABLE, 1, 1)
    assert await drain(jobs.database, handlers=[charge_by_steps], with_scheduled=True) == {"completed": 1}
    assert MARKER not in await all_columns(jobs)


async def test_a_rerun_of_an_encrypted_job_has_an_envelope_of_its_own(jobs: Jobs) -> None:
    first = await jobs.get(await jobs.enqueue(Charge(cents=7)))
    async with jobs.database.sessions.begin() as session:
        cipher = JobCipher(keys_of(session), first.id, first.kind, is_encrypted=True)
        second = await run_again(session, first, cipher.read(Charge, first.payload, 1), owner_id=None)

    assert (await jobs.get(second)).payload != first.payload
    assert await drain(jobs.database, handlers=[charge]) == {"completed": 2}
    assert MARKER not in await all_columns(jobs)


async def test_what_is_encrypted_for_an_account_goes_with_it(jobs: Jobs) -> None:
    owner_id = new_id()
    ended, waiting, plain = [
        await jobs.enqueue(payload, owner_id=owner_id) for payload in (Charge(), Charge(), Note(text="an id"))
    ]
    await jobs.execute(f"UPDATE jobs SET state = 'discarded', claim_at = NULL WHERE id IN ('{ended}', '{plain}')")
    before = (await jobs.get(waiting)).payload

    async with jobs.database.sessions.begin() as session:
        erased = [await erase_traces(session, owner_id) for _ in range(2)]

    assert erased == [1, 0]
    assert (await jobs.get(ended)).payload == {"$encrypted": {}}
    assert ((await jobs.get(waiting)).payload, (await jobs.get(plain)).payload) == (before, {"text": "an id"})


async def test_a_worker_without_a_key_of_its_encrypted_kinds_does_not_start(
    database_settings: DatabaseSettings,
) -> None:
    about = {"database": database_settings, "auth": one_time_settings(), "redis": {"url": "redis://127.0.0.1:1"}}

    with pytest.raises(Misconfigured, match=r"^APP_JOBS__KEYS: test\.charge: "):
        await run_worker(WorkerSettings.model_validate(about), handlers=[*HANDLERS, charge])
