"""Authentications that share queries answer as single ones do, whatever happens to users and sessions meanwhile."""

import asyncio
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field
from datetime import timedelta
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Executable, delete, insert, text, update

from app_db import Database, open_database
from app_db.models import User, UserSession
from app_db.outage import DatabaseUnavailable
from app_db.repositories.user_sessions import find_authenticated
from app_db.settings import DatabaseSettings
from app_db.telemetry.traces import DatabaseTraces
from app_db.types import new_id, utcnow
from app_runtime.testing.collector import Collector

SINGLE = text("""
    SELECT count(users.id) > 0, count(user_sessions.id) > 0 FROM users LEFT JOIN user_sessions
    ON user_sessions.user_id = users.id AND user_sessions.id = :session_id AND disabled_at IS NULL
    WHERE users.id = :user_id
""")
"""The query of one call, without its clock."""
USERS, SESSIONS = range(3), range(2)
WHICH = [(user, session) for user in USERS for session in SESSIONS]
STEPS = st.one_of(
    st.tuples(st.sampled_from(["call"] * 6), st.sampled_from(WHICH)),
    st.tuples(st.sampled_from(["sign_in", "sign_in", "revoke", "disable", "enable", "delete"]), st.sampled_from(WHICH)),
    st.tuples(st.sampled_from(["cancel", "turns", "turns"]), st.tuples(st.integers(0, 20), st.just(0))),
)

type Which = tuple[int, int]
type Answer = tuple[bool, bool]
"""Whether there is the user, and whether the session lives."""


@dataclass(frozen=True)
class State:
    """All users and sessions at one time."""

    users: frozenset[int] = frozenset(USERS)
    disabled: frozenset[int] = frozenset()
    sessions: frozenset[Which] = frozenset()

    def answer(self, which: Which) -> Answer:
        user, _ = which
        return user in self.users, user in self.users - self.disabled and which in self.sessions


@dataclass
class World:
    """The database, and each state that it has had."""

    database: Database
    users: list[UUID] = field(default_factory=lambda: [new_id() for _ in USERS])
    sessions: dict[Which, UUID] = field(default_factory=lambda: {which: new_id() for which in WHICH})
    states: list[State] = field(default_factory=lambda: [State()])
    committed: int = 0
    """The number of the newest state of which everybody knows; the next one is perhaps there."""
    calls: list[asyncio.Task[None]] = field(default_factory=list)

    async def play(self, steps: list[tuple[str, Which]]) -> None:
        for number, user_id in enumerate(self.users):
            columns = {"email": "a@b", "email_canonical": user_id.hex, "password_hash": str(number)}
            await self.write(insert(User).values(id=user_id, **columns))
        for step, which in steps:
            await self.step(step, which)
        outcomes = await asyncio.gather(*self.calls, return_exceptions=True)
        assert all(outcome is None or isinstance(outcome, asyncio.CancelledError) for outcome in outcomes), outcomes
        for which in WHICH:
            assert await self.ask(which) == await self.ask_single(which) == self.states[-1].answer(which)

    async def step(self, step: str, which: Which) -> None:
        user, _ = which
        now = self.states[-1]
        match step:
            case "call":
                self.calls.append(asyncio.create_task(self.call(which)))
            case "cancel" if self.calls:
                self.calls[user % len(self.calls)].cancel()
            case "turns":
                for _ in range(user):
                    await asyncio.sleep(0)
            case "sign_in" if user in now.users and which not in now.sessions:
                ends = utcnow() + timedelta(hours=1)
                row = insert(UserSession).values(id=self.sessions[which], user_id=self.users[user], refresh_key_id="k")
                begun = row.values(idle_expires_at=ends, expires_at=ends)
                await self.change(State(now.users, now.disabled, now.sessions | {which}), begun)
            case "revoke":
                ended = delete(UserSession).where(UserSession.id == self.sessions[which])
                await self.change(State(now.users, now.disabled, now.sessions - {which}), ended)
            case "disable" | "enable":
                disabled = now.disabled | {user} if step == "disable" else now.disabled - {user}
                disabling = update(User).where(User.id == self.users[user])
                at = utcnow() if step == "disable" else None
                await self.change(State(now.users, disabled, now.sessions), disabling.values(disabled_at=at))
            case "delete":
                gone = delete(User).where(User.id == self.users[user])
                left = frozenset(one for one in now.sessions if one[0] != user)
                await self.change(State(now.users - {user}, now.disabled, left), gone)
            case _:  # there is nothing to cancel, or nobody who could sign in
                pass

    async def change(self, state: State, statement: Executable) -> None:
        self.states.append(state)
        await self.write(statement)
        self.committed = len(self.states) - 1

    async def write(self, statement: Executable) -> None:
        async with self.database.engine.begin() as connection:
            await connection.execute(statement)

    async def call(self, which: Which) -> None:
        known = self.committed

        answer = await self.ask(which)

        assert answer in [state.answer(which) for state in self.states[known:]]

    async def ask(self, which: Which) -> Answer:
        user_id = self.users[which[0]]
        row = await find_authenticated(self.database, user_id=user_id, session_id=self.sessions[which])
        assert row is None or row.user_id == user_id
        assert row is None or row.session_id in (None, self.sessions[which])
        return row is not None, row is not None and row.session_id is not None

    async def ask_single(self, which: Which) -> Answer:
        ids = {"user_id": self.users[which[0]], "session_id": self.sessions[which]}
        async with self.database.read_engine.connect() as connection:
            found, lives = (await connection.execute(SINGLE, ids)).one()
            return bool(found), bool(lives)


@pytest.fixture
def runner() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as runner:
        yield runner


@pytest.fixture
def mine(database: Database, runner: asyncio.Runner) -> Iterator[Database]:
    """The test's database, in a loop that Hypothesis can use again and again."""
    opened = open_database(database.settings, name="shared")
    yield runner.run(opened.__aenter__())
    runner.run(opened.__aexit__(None, None, None))


def test_shared_authentications_answer_as_single_ones(mine: Database, runner: asyncio.Runner) -> None:
    @settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])
    @given(steps=st.lists(STEPS, min_size=5, max_size=40))
    def play(steps: list[tuple[str, Which]]) -> None:
        runner.run(World(mine).play(steps))

    play()

    assert max(mine.gathered) > 3
    assert mine.gathered[1] > 3


async def test_each_call_of_a_shared_query_is_a_span(database_settings: DatabaseSettings) -> None:
    with Collector() as collector:
        traces = DatabaseTraces(collector.endpoint, 1.0, "app-db")
        tracer = traces.provider.get_tracer("test")

        async def call(name: str) -> None:
            with tracer.start_as_current_span(name) if name else nullcontext():
                await find_authenticated(database, user_id=new_id(), session_id=new_id())

        async with open_database(database_settings, name="traced") as database, traces.tracing(database):
            await asyncio.gather(*map(call, ("one", "other", "")))
            assert database.gathered == {3: 1}

        calls = {(span.trace_id, span.parent_id) for span in collector.named("SELECT")}
        assert calls == {(span.trace_id, span.id) for name in ("one", "other") for span in collector.named(name)}
        assert all("FROM unnest($1::UUID[]" in str(span.attributes) for span in collector.named("SELECT"))


@pytest.mark.parametrize("names", [[], ["DatabaseUnavailable"]])
async def test_a_call_that_fails_shows_the_class_of_the_error_alone(refusing_url: str, names: list[str]) -> None:
    with Collector() as collector:
        traces = DatabaseTraces(collector.endpoint, 1.0, "app-db")
        gone = DatabaseSettings.model_validate({"url": refusing_url})
        async with open_database(gone, name="traced") as database, traces.tracing(database):
            span = traces.provider.get_tracer("test").start_as_current_span("work") if names else nullcontext()
            with span, pytest.raises(DatabaseUnavailable):
                await find_authenticated(database, user_id=new_id(), session_id=new_id())

        assert [span.attributes["error.type"] for span in collector.named("SELECT")] == names
