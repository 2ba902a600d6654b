"""Public calls have an example in their docstring, and each runs: on a real database, in a real application."""

import doctest
from contextlib import nullcontext
from importlib import import_module
from inspect import isfunction
from pathlib import Path

import pytest
import pytest_asyncio
from fastapi import APIRouter
from fastapi.routing import APIRoute

from app_api import dependencies
from app_api.resources import RESOURCES
from app_api.settings import ApiSettings
from app_api.testing import SignedIn, open_client
from app_auth.errors import EmailTaken
from app_auth.limits import ThrottleSettings
from app_auth.principal import Principal
from app_auth.settings import AuthSettings
from app_auth.testing import MakeAccount, SignIn
from app_db import Database, Session
from app_db.jobs.outbox import enqueue
from app_db.models import Role, User
from app_db.settings import DatabaseSettings
from app_db.testing.plugin import MakeUser
from app_db.types import new_id, utcnow
from app_runtime.resources import Resource
from app_worker.context import JobContext
from app_worker.registry import Handler
from app_worker.testing import drain
from packages.api.tests.conftest import app_of
from tests.docs import example_names
from tests.docs.checkout import ROOT
from tests.docs.example_names import EndSessions, Vet, close_account, vets
from tests.docs.examples import class_of_example, example_of, run_example
from tests.docs.explaining import Names
from tests.docs.pages import PageError

KNOWN = {name: value for name, value in vars(example_names).items() if not name.startswith("__")}

CALLS: dict[str, type[Exception] | None] = {
    "app_api.paging.Page": None,
    "app_api.problems.problem_responses": None,
    "app_auth.permissions.require_operator": None,
    "app_db.engine.Database.unit_of_work": None,
    "app_db.engine.script_session": None,
    "app_db.jobs.control.cancel": None,
    "app_db.jobs.outbox.enqueue": None,
    "app_db.jobs.outbox.enqueue_many": None,
    "app_db.jobs.payload.JobPayload": None,
    "app_db.jobs.payload.JobPayload.upgrade": None,
    "app_db.jobs.unique.Unique": None,
    "app_db.paging.slice_after": None,
    "app_db.testing.jobs.assert_enqueued": None,
    "app_db.testing.jobs.enqueued": None,
    "app_db.testing.jobs.refute_enqueued": None,
    "app_db.testing.queries.assert_queries": None,
    "app_db.repositories.limits.unseen": None,
    "app_db.repositories.limits.up_to": None,
    "app_worker.schedule.Cron": None,
    "app_worker.testing.drain": None,
    "app_worker.testing.inline": None,
    "app_db.violations.violation_as": EmailTaken,
}
"""The error that each example raises, if any."""
HANDLERS = {
    "app_worker.context.Discard": "discarded",
    "app_worker.context.JobContext.attempt": "completed",
    "app_worker.context.JobContext.cursor": "completed",
    "app_worker.context.JobContext.id": "completed",
    "app_worker.context.JobContext.idempotency_key": "completed",
    "app_worker.context.JobContext.last_transaction": "completed",
    "app_worker.context.JobContext.owner_id": "completed",
    "app_worker.context.JobContext.run_at": "completed",
    "app_worker.context.JobContext.session": "completed",
    "app_worker.context.JobContext.set_progress": "completed",
    "app_worker.context.JobContext.step": "completed",
    "app_worker.context.JobContext.transaction": "completed",
    "app_worker.context.Snooze": "scheduled",
    "app_worker.mail.Mails.send": "completed",
    "app_worker.registry.handles": "completed",
}
"""The names whose examples are handlers, and the state in which the handler leaves its job."""
HTTP = [
    "app_api.dependencies.AuthDep",
    "app_api.dependencies.BearerDep",
    "app_api.dependencies.ClientDep",
    "app_api.dependencies.CursorDep",
    "app_api.dependencies.DatabaseDep",
    "app_api.dependencies.LimitDep",
    "app_api.dependencies.OperatorDep",
    "app_api.dependencies.OptionalPrincipalDep",
    "app_api.dependencies.PrincipalDep",
    "app_api.dependencies.ReplicaSessionDep",
    "app_api.dependencies.SessionDep",
    "app_api.resources.resource",
    "app_api.testing.assert_problem",
    "app_api.testing.open_client",
]
FIXTURES = [
    "app_auth.testing.auth",
    "app_auth.testing.make_account",
    "app_auth.testing.sign_in",
    "app_db.testing.plugin.database",
    "app_db.testing.plugin.make_user",
    "app_db.testing.plugin.session",
    "app_runtime.testing.plugin.valkey_url",
    "app_worker.testing.drain_jobs",
    "app_worker.testing.inline_jobs",
    "app_worker.testing.job_handlers",
    "app_worker.testing.job_resources",
    "app_worker.testing.mailer",
]
PROMPTS = [path for path in sorted(ROOT.glob("packages/*/src/**/*.py")) if " >>> " in path.read_text()]


@pytest_asyncio.fixture(loop_scope="session")
async def fixtures(database: Database, session: Session, make_user: MakeUser, tmp_path: Path) -> Names:
    """Names that examples use without defining them, among them two users; one job is enqueued."""
    ada, bob = await make_user(email="ada@example.test", role=Role.OPERATOR), await make_user()
    async with database.unit_of_work() as unit:
        await enqueue(unit, EndSessions(user_id=ada.id))
    principal = Principal(ada.id, ada.email, ada.role, session_id=new_id(), signed_in_at=utcnow())
    ada_again = User(email=ada.email, email_canonical=ada.email_canonical, password_hash="-")
    known: Names = {"ada": ada, "bob": bob, "principal": principal, "user": ada_again, "folder": tmp_path}
    return {**known, "database": database, "session": session, "settings": database.settings}


@pytest.mark.parametrize(("name", "raised"), CALLS.items())
async def test_the_example_of_a_call_runs(name: str, raised: type[Exception] | None, fixtures: Names) -> None:
    with pytest.raises(raised) if raised else nullcontext():
        await run_example(name, KNOWN, fixtures)


@pytest.mark.parametrize(("name", "state"), HANDLERS.items())
async def test_the_example_of_what_handlers_use_is_a_handler(
    name: str, state: str, fixtures: Names, database: Database
) -> None:
    defined = await run_example(name, KNOWN, fixtures)

    (handler,) = [value for value in defined.values() if isinstance(value, Handler)]
    states = await drain(database, handlers=[handler, close_account], resources={Vet: Vet()}, keep_failures=True)
    assert set(states) == {state}


@pytest.fixture(scope="session")
def api_settings(
    database_settings: DatabaseSettings,
    valkey_url: str,
    auth_settings: AuthSettings,
    throttle_settings: ThrottleSettings,
) -> ApiSettings:
    """Return settings of an API on the servers of this test process."""
    sections = {"database": database_settings, "redis": {"url": valkey_url}, "auth": auth_settings}
    return ApiSettings.model_validate({"env": "test", "throttle": throttle_settings, **sections})


@pytest.mark.parametrize("name", HTTP)
async def test_the_example_of_what_routes_use_is_a_route_or_a_request(
    name: str, api_settings: ApiSettings, make_account: MakeAccount, sign_in: SignIn
) -> None:
    ada = await make_account(role=Role.OPERATOR)
    headers = SignedIn(ada, await sign_in(ada)).headers
    resources = {**RESOURCES, Vet: Resource(Vet, vets, None, "pets", __file__)}
    app, router = app_of(api_settings, resources=resources), APIRouter()

    async with open_client(app) as client:
        known = KNOWN | {"client": client, "router": router, "settings": api_settings}
        defined = await run_example(name, known, {})
        app.include_router(router)
        for route in router.routes:
            assert isinstance(route, APIRoute)
            path = route.path.format(user_id=ada.id, queue="mail")
            response = await client.request(min(route.methods or ()), path, headers=headers)
            assert response.is_success, response.text

    assert router.routes or "response" in defined or "problem" in defined


def test_every_dependency_and_every_member_of_a_job_has_an_example() -> None:
    aliases = {f"{dependencies.__name__}.{name}" for name in vars(dependencies) if name.endswith("Dep")}
    members = {name for name, value in vars(JobContext).items() if isinstance(value, property) or isfunction(value)}

    public = {f"{JobContext.__module__}.JobContext.{name}" for name in members if not name.startswith("_")}

    assert aliases | public <= {*HTTP, *HANDLERS}


for number, fixture in enumerate(FIXTURES):
    globals()[f"TestExample{number}"] = class_of_example(fixture, KNOWN)


@pytest.mark.parametrize("path", PROMPTS, ids=lambda path: path.stem)
def test_what_a_docstring_shows_is_what_it_prints(path: Path) -> None:
    module = path.relative_to(next(parent for parent in path.parents if parent.name == "src")).with_suffix("")

    tried = doctest.testmod(import_module(".".join(module.parts)))

    assert (tried.failed, tried.attempted > 0) == (0, True)


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("app_db.jobs.outbox.UNIQUE_TRIES", "has no docstring"),
        ("app_db.jobs.outbox.TRACE", "has no section"),
        ("app_db.jobs.outbox.Gone", "has no docstring"),
        ("app_gone.Gone", "no such module"),
    ],
)
def test_a_name_without_an_example_is_an_error(name: str, wrong: str) -> None:
    with pytest.raises(PageError, match=wrong):
        example_of(name)
