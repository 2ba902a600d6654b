"""What the open pages of operators are sent: the parts that these pages were loaded with."""

from collections.abc import Mapping

import pytest
from fastapi import FastAPI

from app_api.console.fragments import Watched
from app_api.console.rendering import Console
from app_api.lifespan import State
from app_db import Database
from app_db.models import JobState
from app_db.testing.queries import assert_queries
from app_db.types import new_id
from packages.api.tests.conftest import Browser, MakeJob


async def texts_of(app: FastAPI, database: Database, *marks: str) -> Mapping[str, str]:
    """Return what would be sent of these parts, by mark."""
    console: Console = app.state.console
    parts = [mark.split(":") for mark in marks]
    watched = [Watched(name, about, None) for name, about in parts]
    texts = {}
    async with database.unit_of_work(read_only=True) as session:
        for name in {one.name for one in watched}:
            fragment = console.fragments[name]
            assert fragment.for_operators
            for one, context in (await fragment.read(session, [each for each in watched if each.name == name])).items():
                texts[one.mark] = console.templates.get_template(fragment.template).render(context)
    return texts


async def test_a_job_is_followed_with_its_progress_and_errors(
    app: FastAPI, make_job: MakeJob, database: Database, operator_browser: Browser
) -> None:
    running = await make_job(JobState.EXECUTING, progress={"done": 1, "of": 4}, error="no <b>route</b>")
    done, gone = await make_job(JobState.COMPLETED), new_id()

    with assert_queries(database, max=2):
        texts = await texts_of(app, database, f"job:{running}", f"job:{done}", f"job:{gone}", "job:none")

    assert set(texts) == {f"job:{running}", f"job:{done}"}
    assert 'value="25"' in texts[f"job:{running}"]
    assert "no &lt;b&gt;route" in texts[f"job:{running}"]
    assert "Completed" in texts[f"job:{done}"]
    assert f'data-live="job:{done}"' in (await operator_browser.get(f"/console/jobs/{done}")).text


@pytest.mark.parametrize(
    ("page", "marks", "shown"),
    [
        ("overview", ["overview:hour", "overview:day", "overview:other"], "Jobs that ended"),
        ("queues", ["queues:"], "At most at once"),
        ("workers", ["workers:"], "No worker runs"),
        ("crons", ["crons:"], "No worker has run yet"),
    ],
)
async def test_pages_of_the_system_are_followed(
    app: FastAPI,
    make_job: MakeJob,
    database: Database,
    operator_browser: Browser,
    state: State,
    *,
    page: str,
    marks: list[str],
    shown: str,
) -> None:
    await make_job()

    texts = await texts_of(app, database, *marks)

    assert set(texts) == {mark for mark in marks if not mark.endswith("other")}
    assert all(shown in text for text in texts.values())
    assert f'data-live="{marks[0]}"' in (await operator_browser.get(f"/console/{page}")).text
