"""Jobs with encrypted payloads over HTTP and in the console: nobody sees their values."""

from uuid import UUID

import pytest
from httpx2 import AsyncClient

from app_api.console.fragments import Watched
from app_api.features.jobs.operator_job_pages import read_results
from app_api.features.jobs.reruns import problems_of
from app_api.testing import SignedIn
from app_auth.testing import Account
from app_db import Database
from app_db.jobs.encryption import JobCipher
from app_db.jobs.outbox import enqueue
from app_db.jobs.payload import JobPayload
from app_db.models import Job
from packages.api.tests.conftest import Browser

MARKER = "marker-4929-secret"


class Charge(JobPayload, encrypted=True):
    kind = "test.charge"
    card: str = MARKER
    cents: int = 5


async def add_charge(database: Database, owner_id: UUID) -> UUID:
    """Return a job that has run, with all that it may keep."""
    async with database.unit_of_work() as session:
        job_id = await enqueue(session, Charge(), owner_id=owner_id)
        job = await session.get_one(Job, job_id)
        cipher = JobCipher(database.payload_keys, job_id, Charge.kind, is_encrypted=True)
        job.result, job.cursor = cipher.seal("result", {"receipt": MARKER}), cipher.seal("cursor", MARKER)
        job.steps = [{"name": "authorise", "result": cipher.seal("step authorise", MARKER)}]
    return job_id


async def test_neither_the_owner_nor_an_operator_sees_a_value(
    client: AsyncClient, signed_in: SignedIn, operator: SignedIn, database: Database
) -> None:
    job_id = await add_charge(database, signed_in.account.id)

    own = await client.get(f"/jobs/{job_id}", headers=signed_in.headers)
    all_of_it = await client.get(f"/jobs/{job_id}", headers=operator.headers)

    assert own.json()["result"] == {"encrypted": True}
    internals = all_of_it.json()["internals"]
    assert internals["payload"] == internals["cursor"] == {"encrypted": True}
    assert internals["steps"] == [{"name": "authorise", "result": {"encrypted": True}}]
    for response in (own, all_of_it, await client.get("/jobs", headers=signed_in.headers)):
        assert MARKER not in response.text
        assert "$encrypted" not in response.text


async def test_the_page_of_a_job_says_that_it_is_encrypted(
    operator_browser: Browser, ada: Account, database: Database
) -> None:
    job_id = await add_charge(database, ada.id)

    page = (await operator_browser.get(f"/console/jobs/{job_id}")).text
    again = (await operator_browser.get(f"/console/jobs/{job_id}/again")).text

    assert f"python -m app_worker reveal {job_id}" in page
    assert "The payload is encrypted and not shown" in again
    for shown in (page, again):
        assert MARKER not in shown
        assert "$encrypted" not in shown


async def test_a_payload_that_was_typed_for_an_encrypted_job_is_not_shown_again(
    operator_browser: Browser, ada: Account, database: Database
) -> None:
    job_id = await add_charge(database, ada.id)

    for typed in (MARKER, ""):
        refused = await operator_browser.post(f"/console/jobs/{job_id}/again", payload=typed)

        assert refused.status_code == 422  # no class of this application has the kind
        assert MARKER not in refused.text
        assert "Leave the field empty" in refused.text


async def test_what_is_live_on_the_page_is_hidden_too(database: Database, ada: Account) -> None:
    job_id = await add_charge(database, ada.id)
    watched = Watched("job-result", str(job_id), None)

    async with database.unit_of_work(read_only=True) as session:
        [context] = (await read_results(session, [watched])).values()

    assert context["result"] == context["cursor"] == {"encrypted": True}
    assert MARKER not in repr(context)


def test_what_is_wrong_with_an_encrypted_payload_is_told_without_a_value() -> None:
    with pytest.raises(ValueError) as refused:  # noqa: PT011  # pydantic's
        Charge.model_validate_json(f'{{"cents": "{MARKER}", "{MARKER}": 1}}')

    [problem] = problems_of(refused.value, Charge)

    assert (problem.pointer, problem.detail) == ("#/payload", "cents: int_parsing, payload: extra_forbidden")
