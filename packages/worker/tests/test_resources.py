"""Resources that handlers ask for besides their job and payload."""

from functools import partial
from typing import Any

import pytest

from app_db.testing.jobs import enqueued
from app_runtime.discovery import FeatureError
from app_runtime.resources import Opened
from app_worker.context import JobContext
from app_worker.registry import Handler, handles
from app_worker.resources import needs_of, require_resources, supplied
from app_worker.testing import DrainJobs, JobFailed, inline

from .conftest import Jobs, Note


class Vet:
    """A client of another service."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    async def call(self, about: str) -> None:
        self.calls.append(about)


@handles(Note)
async def call_vet(job: JobContext, payload: Note, vet: Vet, *, urgent: bool = False) -> None:
    await vet.call(payload.text)


@handles(Note)
async def note(job: JobContext, payload: Note) -> None: ...


def test_a_handler_asks_by_type() -> None:
    assert needs_of(call_vet) == {"vet": Vet}
    assert needs_of(note) == {}


async def untyped(job: JobContext, payload: Note, vet) -> None: ...  # type: ignore[no-untyped-def]  # noqa: ANN001  # that is the fault


async def text(job: JobContext, payload: Note, vet: "Vet | None") -> None: ...


async def checked(job: JobContext, payload: Note, vet: "Nothing") -> None: ...  # type: ignore[name-defined]  # noqa: F821  # that is the fault


def test_what_a_handler_asks_for_is_there_at_run_time() -> None:
    """woltapp/magic-di #5: a class that is imported for type checkers alone ended the start with a bare NameError."""
    with pytest.raises(FeatureError, match=r"test_resources.checked: name 'Nothing' is not defined: import it at run"):
        needs_of(handles(Note)(checked))


@pytest.mark.parametrize("function", [untyped, text, partial(untyped)])
def test_what_a_handler_asks_for_has_a_type(function: Any) -> None:
    with pytest.raises(FeatureError, match=r"test_resources.(untyped|text): give `vet` the type"):
        needs_of(handles(Note)(function))


def test_a_handler_that_asks_for_what_nobody_gives_is_refused() -> None:
    require_resources([note, call_vet], {Vet})

    with pytest.raises(FeatureError, match=r"test_resources.call_vet asks for Vet: let `resources.py` of a feature"):
        require_resources([note, call_vet], ())


async def test_a_handler_is_given_what_it_asks_for() -> None:
    vet = Vet()

    first, second = supplied([note, call_vet], {Vet: vet})

    assert first is note
    await second.function(None, Note(text="Rex"))
    assert vet.calls == ["Rex"]


@pytest.fixture
def job_handlers() -> list[Handler]:
    return [call_vet]


class TestWithVet:
    """A test gives the resources that the application would open."""

    @pytest.fixture
    def job_resources(self) -> Opened:
        return {Vet: Vet()}

    async def test_a_test_gives_what_handlers_ask_for(
        self, jobs: Jobs, drain_jobs: DrainJobs, job_resources: Opened
    ) -> None:
        await jobs.enqueue(Note(text="Rex"))

        assert await drain_jobs() == {"completed": 1}
        assert job_resources[Vet].calls == ["Rex"]

    async def test_inline_as_well(self, jobs: Jobs, inline_jobs: None, job_resources: Opened) -> None:
        await jobs.enqueue(Note(text="Rex"))

        assert job_resources[Vet].calls == ["Rex"]


async def test_a_test_that_gives_nothing_is_told_how(jobs: Jobs, drain_jobs: DrainJobs) -> None:
    await jobs.enqueue(Note(text="Rex"))

    with pytest.raises(JobFailed, match=r"test.note: give Vet by the fixture `job_resources`"):
        await drain_jobs()
    with inline(jobs.database, handlers=[call_vet]), pytest.raises(LookupError, match="job_resources"):
        await jobs.enqueue(Note(text="Max"))
    async with jobs.database.read_sessions() as session:
        assert len(await enqueued(session, Note)) == 1
