"""The page of one job, and what can be done there."""

from datetime import timedelta
from uuid import UUID

import pytest
from sqlalchemy import delete, func, select, text

from app_api.features.jobs.operator_job_pages import LARGEST_PAYLOAD
from app_api.features.jobs.reruns import problems_of
from app_auth.testing import Account
from app_db import Database
from app_db.features.accounts.payloads import WelcomeEmail
from app_db.features.jobs.payloads import ActOnJobs
from app_db.models import Job, JobCancellation, JobState
from app_db.types import new_id, utcnow
from packages.api.tests.conftest import Browser, MakeJob

EVIL = "</pre><script>alert(1)</script>"


async def job_of(database: Database, job_id: UUID) -> Job:
    async with database.unit_of_work(read_only=True) as session:
        return (await session.scalars(select(Job).where(Job.id == job_id))).one()


async def test_all_that_is_known_of_a_job_is_shown_as_text(
    operator_browser: Browser, make_job: MakeJob, ada: Account
) -> None:
    about = {"payload": {"note": EVIL}, "progress": {"step": EVIL, "done": 1, "of": 2}, "result": EVIL}
    job_id = await make_job(
        JobState.DISCARDED, error=EVIL * 20, owner_id=ada.id, request_id=EVIL, crashes=2, redeliveries=3, **about
    )

    response = await operator_browser.get(f"/console/jobs/{job_id}")

    assert response.status_code == 200
    assert "<script>" not in response.text
    for shown in (ada.email, "Attempt 1 failed", "Discarded", "Traceback", "Crashes", "Redeliveries", 'value="50"'):
        assert shown in response.text, shown
    assert "Retry now" in response.text
    assert "Run again" not in response.text  # no class checks its payload


@pytest.mark.parametrize("job_state", JobState)
async def test_each_state_offers_what_can_be_done(
    operator_browser: Browser, make_job: MakeJob, job_state: JobState
) -> None:
    times = {"started_at": func.now() - timedelta(seconds=9), "run_at": utcnow() + timedelta(hours=1)}
    job_id = await make_job(job_state, kind=WelcomeEmail.kind, owner_id=new_id(), **times)

    page = (await operator_browser.get(f"/console/jobs/{job_id}")).text

    is_open = job_state not in {JobState.COMPLETED, JobState.DISCARDED, JobState.CANCELLED}
    assert (f"/console/jobs/{job_id}/cancel" in page) == is_open
    assert (f"/console/jobs/{job_id}/discard" in page) == (is_open and job_state is not JobState.EXECUTING)
    assert f"/console/jobs/{job_id}/again" in page
    assert "(gone)" in page


async def test_a_job_is_retried_cancelled_and_discarded(
    operator_browser: Browser, make_job: MakeJob, database: Database
) -> None:
    failed, waiting, running, other = [
        await make_job(state)
        for state in (JobState.DISCARDED, JobState.AVAILABLE, JobState.EXECUTING, JobState.SCHEDULED)
    ]

    for job_id, action, done in (
        (failed, "retry", "retried"), (waiting, "cancel", "cancelled"), (running, "cancel", "cancelled"),
        (other, "discard", "discarded"),
    ):  # fmt: skip
        response = await operator_browser.post(f"/console/jobs/{job_id}/{action}")
        assert response.headers["Location"] == f"/console/jobs/{job_id}?done=job-{done}"

    states = [(await job_of(database, job_id)).state for job_id in (failed, waiting, running, other)]
    assert states == [JobState.AVAILABLE, JobState.CANCELLED, JobState.EXECUTING, JobState.DISCARDED]
    async with database.unit_of_work(read_only=True) as session:
        assert list(await session.scalars(select(JobCancellation.job_id))) == [running]
    assert "It is asked to end" in (await operator_browser.get(f"/console/jobs/{running}")).text


async def test_a_job_that_refuses_says_why_on_its_page(operator_browser: Browser, make_job: MakeJob) -> None:
    job_id = await make_job(JobState.COMPLETED)

    response = await operator_browser.post(f"/console/jobs/{job_id}/cancel")

    assert response.status_code == 409
    assert "The job has ended." in response.text
    assert "Timeline" not in response.text
    assert (await operator_browser.post(f"/console/jobs/{new_id()}/retry")).status_code == 404


async def test_discarding_a_job_asks_for_the_password_again(
    operator_browser: Browser, make_job: MakeJob, database: Database
) -> None:
    job_id = await make_job()
    async with database.unit_of_work() as session:
        await session.execute(text("UPDATE user_sessions SET created_at = created_at - interval '1 hour'"))

    response = await operator_browser.post(f"/console/jobs/{job_id}/discard")

    assert response.headers["Location"].startswith("/console/confirm")
    assert (await job_of(database, job_id)).state is JobState.AVAILABLE


async def test_a_job_runs_at_another_time(operator_browser: Browser, make_job: MakeJob, database: Database) -> None:
    job_id = await make_job()

    moved = await operator_browser.post(f"/console/jobs/{job_id}/run-at", run_at="2999-12-24T18:00")

    assert moved.headers["Location"].endswith("?done=job-moved")
    assert (await job_of(database, job_id)).run_at.isoformat() == "2999-12-24T18:00:00+00:00"
    for wrong in ("", "tomorrow", "9999-12-31T00:00", "1969-01-01"):
        refused = await operator_browser.post(f"/console/jobs/{job_id}/run-at", run_at=wrong)
        assert refused.status_code == 422
        assert "Give a day and a time in UTC" in refused.text


async def test_a_job_is_run_again_as_a_new_one_with_an_edited_payload(
    operator_browser: Browser, make_job: MakeJob, database: Database, ada: Account
) -> None:
    payload = {"user_id": str(ada.id)}
    about = {"kind": WelcomeEmail.kind, "payload": payload, "owner_id": ada.id, "queue": "mail", "priority": 5}
    job_id = await make_job(JobState.DISCARDED, **about)

    asked = await operator_browser.get(f"/console/jobs/{job_id}/again")
    edited = f'{{"user_id": "{new_id()}"}}'
    done = await operator_browser.post(f"/console/jobs/{job_id}/again", payload=edited, keeps_owner="true")
    alone = await operator_browser.post(f"/console/jobs/{job_id}/again", payload=edited)

    assert str(ada.id) in asked.text
    for response, owner in ((done, ada.id), (alone, None)):
        new = await job_of(database, UUID(response.headers["Location"].split("/")[-1].split("?")[0]))
        assert (new.kind, new.queue, new.priority, new.owner_id) == (WelcomeEmail.kind, "mail", 5, owner)
        assert new.payload["user_id"] in edited
    assert (await job_of(database, job_id)).state is JobState.DISCARDED


@pytest.mark.parametrize("payload", ["", "{", '{"user_id": "<b>x</b>"}', "[]", '{"other": 1}', '"\\u0000"'])
async def test_a_payload_that_its_class_refuses_is_shown_again_with_the_reason(
    operator_browser: Browser, make_job: MakeJob, payload: str
) -> None:
    job_id = await make_job(JobState.DISCARDED, kind=WelcomeEmail.kind)

    response = await operator_browser.post(f"/console/jobs/{job_id}/again", payload=payload)

    assert response.status_code == 422
    assert "note error" in response.text
    assert "<b>" not in response.text
    assert "Payload (JSON)" in response.text


async def test_a_large_payload_passes(operator_browser: Browser, make_job: MakeJob) -> None:
    job_id = await make_job(JobState.DISCARDED, kind=WelcomeEmail.kind)

    response = await operator_browser.post(f"/console/jobs/{job_id}/again", payload='"' * LARGEST_PAYLOAD)

    assert response.status_code == 422
    assert "Payload (JSON)" in response.text


async def test_a_kind_without_a_class_is_not_run_again(operator_browser: Browser, make_job: MakeJob) -> None:
    job_id = await make_job(JobState.DISCARDED)

    response = await operator_browser.post(f"/console/jobs/{job_id}/again", payload="{}")

    assert response.status_code == 422
    assert "no payload class" in response.text


async def test_the_job_that_acts_on_many_is_not_run_again_with_another_filter(
    operator_browser: Browser, make_job: MakeJob, database: Database
) -> None:
    job_id = await make_job(JobState.COMPLETED, kind=ActOnJobs.kind, payload={"action": "cancel", "queue": "none"})

    everything = '{"action": "delete", "state": "completed"}'
    response = await operator_browser.post(f"/console/jobs/{job_id}/again", payload=everything)

    assert response.status_code == 422
    async with database.unit_of_work(read_only=True) as session:
        assert list(await session.scalars(select(Job.id))) == [job_id]


def test_what_postgres_does_not_keep_is_told_too() -> None:
    [problem] = problems_of(ValueError("a text holds U+0000"), WelcomeEmail)

    assert (problem.pointer, problem.detail) == ("#/payload", "a text holds U+0000")


async def test_the_pages_of_a_job_and_of_its_rerun_name_each_other(
    operator_browser: Browser, make_job: MakeJob, database: Database
) -> None:
    first = await make_job(JobState.DISCARDED, kind=WelcomeEmail.kind)
    edited = f'{{"user_id": "{new_id()}"}}'

    done = await operator_browser.post(f"/console/jobs/{first}/again", payload=edited)

    second = done.headers["Location"].split("/")[-1].split("?")[0]
    assert f"/console/jobs/{first}" in (await operator_browser.get(f"/console/jobs/{second}")).text
    assert (
        f'Run again as <a href="/console/jobs/{second}' in (await operator_browser.get(f"/console/jobs/{first}")).text
    )
    async with database.unit_of_work() as session:
        await session.execute(delete(Job).where(Job.id == first))
    page = (await operator_browser.get(f"/console/jobs/{second}")).text
    assert f"<code>{first}</code>, which has been deleted" in page
    assert f"/console/jobs/{first}" not in page


async def test_what_is_wrong_with_a_payload_stands_beside_its_field(
    operator_browser: Browser, make_job: MakeJob
) -> None:
    job_id = await make_job(JobState.DISCARDED, kind=WelcomeEmail.kind)

    page = (await operator_browser.post(f"/console/jobs/{job_id}/again", payload='{"user_id": 7}')).text

    assert "<code>user_id</code>: UUID input should be" in page
    assert 'aria-invalid="true" aria-describedby="wrong"' in page
    assert page.index('id="wrong"') < page.index("<textarea")
