"""For all sequences of actions on login sessions, the services accept what a model of one page accepts.

The model knows nothing of tokens, rows or transactions. Hypothesis compares it with the real services on a real
database, and checks after each step which sessions are let in.
"""

import asyncio
import os
from collections.abc import Awaitable, Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from app_auth import accounts, sessions
from app_auth.auth import Auth, open_auth
from app_auth.client import NOBODY
from app_auth.errors import (
    AccountNotFound,
    InvalidCredentials,
    InvalidToken,
    ReauthenticationRequired,
    RefreshTokenExpired,
    RefreshTokenNotFound,
    RefreshTokenUsed,
)
from app_auth.principal import Principal
from app_auth.sessions import IssuedTokens
from app_auth.settings import AuthSettings
from app_db import Database, Session
from app_db.errors import AppError, NotFound
from app_db.models import UserSession
from app_db.repositories.user_sessions import UserSessionRepository
from app_db.settings import DatabaseSettings
from app_db.types import new_id, utcnow

FEW = 30
EXAMPLES = int(os.environ.get("HYPOTHESIS_EXAMPLES", FEW))
STEPS = 20
NEVER_A_PASSWORD = "what nobody has chosen"
SESSIONS_PER_USER, MAX_ACCOUNTS = 3, 2
GRACE, IDLE, ABSOLUTE = timedelta(seconds=10), timedelta(days=14), timedelta(days=30)
FRESH = timedelta(minutes=5)
MOMENT = timedelta(microseconds=1)
# Just within a limit, and just beyond it.
PAUSES = st.sampled_from([timedelta(0)] * 4 + [GRACE - MOMENT] * 3 + [GRACE] + [IDLE - MOMENT] * 2 + [IDLE])
INTERVALS = st.sampled_from([FRESH, FRESH + MOMENT, IDLE])
type Use = tuple[timedelta, int, int]
# The pause before a use, the token (the current one, or one or two before it), and the number of uses at once.
USES = st.lists(st.tuples(PAUSES, st.sampled_from([0, 0, 1, 2]), st.integers(1, 2)), min_size=1, max_size=8)

# Mostly open ones, because little can happen to the others.
ACCOUNTS = st.runner().flatmap(lambda model: st.sampled_from(model.open_accounts() * 4 + model.accounts))
FAMILIES = st.runner().flatmap(lambda model: st.sampled_from(model.living() * 4 + model.families))


@dataclass(eq=False)
class Account:
    """A user, with all passwords they ever had; the last one is the current one."""

    id: UUID
    email: str
    passwords: list[str]
    is_disabled: bool = False
    is_deleted: bool = False


@dataclass(eq=False)
class Family:
    """A login session: its state by the rules, and the tokens that its client has got."""

    id: UUID
    owner: Account
    signed_in_at: datetime
    idle_until: datetime
    tokens: list[str]
    rotated_at: datetime | None = None
    has_ended: bool = False

    def lives(self, now: datetime) -> bool:
        return not self.has_ended and now < self.idle_until

    def refresh(self, number: int, now: datetime) -> type[AppError] | None:
        """Play one use of the token with this number; None means that the token with the next number is returned."""
        if self.has_ended:
            return RefreshTokenNotFound
        if now >= self.idle_until:
            return RefreshTokenExpired
        is_current = number == len(self.tokens) - 1
        if is_current:
            self.rotated_at = now
        elif number < len(self.tokens) - 2 or self.rotated_at is None or now >= self.rotated_at + GRACE:
            self.has_ended = True
            return RefreshTokenUsed
        self.idle_until = min(now + IDLE, self.signed_in_at + ABSOLUTE)
        return None


@dataclass(frozen=True)
class World:
    """The real thing: the services, the database, and the loop that they run in."""

    auth: Auth
    database: Database
    runner: asyncio.Runner

    def attempt[T](self, work: Callable[[Session], Awaitable[T]], *, times: int = 1) -> list[T | AppError]:
        """Do the work `times` times at once, each as the edge does: one transaction, and the aftermath in another."""

        async def once() -> T | AppError:
            try:
                async with self.database.unit_of_work() as session:
                    return await work(session)
            except AppError as error:
                async with self.database.unit_of_work() as session:
                    await error.aftermath(session)
                return error

        async def at_once() -> list[T | AppError]:
            return await asyncio.gather(*(once() for _ in range(times)))

        return self.runner.run(at_once())


class SessionModel(RuleBasedStateMachine):
    """The rules."""

    def __init__(self, world: World) -> None:
        super().__init__()
        self.world, self.auth = world, world.auth
        self.now = utcnow()
        self.accounts: list[Account] = []
        self.families: list[Family] = []

    # What users do

    @initialize()
    def somebody_signs_in(self) -> None:
        self.register()
        self.sign_in(self.accounts[0], back=0)

    @precondition(lambda self: len(self.open_accounts()) < MAX_ACCOUNTS)
    @rule()
    def register(self) -> None:
        email, password = f"{new_id().hex}@example.test", new_id().hex
        user = self.done(lambda session: accounts.create(self.auth, session, email=email, password=password))
        self.accounts.append(Account(user.id, email, [NEVER_A_PASSWORD, password]))

    @rule(account=ACCOUNTS, back=st.sampled_from([0, 0, 0, 1]))
    def sign_in(self, account: Account, back: int) -> None:
        password = account.passwords[-1 - back]
        (answer,) = self.world.attempt(
            lambda session: sessions.sign_in(
                self.auth, session, email=account.email, password=password, client=NOBODY, now=self.now
            )
        )
        if account.is_deleted or account.is_disabled or back:
            assert isinstance(answer, InvalidCredentials)
            return
        assert not isinstance(answer, AppError)
        kept = sorted(self.of(account), key=lambda family: (family.lives(self.now), family.id), reverse=True)
        end(kept[SESSIONS_PER_USER - 1 :])
        token = answer.refresh_token
        family = Family(self.auth.refresh_tokens.parse(token).session_id, account, self.now, self.now + IDLE, [token])
        self.families.append(family)

    @rule(account=ACCOUNTS, uses=USES)
    def sign_in_and_stay(self, account: Account, uses: list[Use]) -> None:
        self.sign_in(account, back=0)
        self.refresh(self.families[-1], uses)

    @rule(family=FAMILIES, uses=USES)
    def refresh(self, family: Family, uses: list[Use]) -> None:
        for pause, back, times in uses:
            self.now += pause
            self.refresh_at_once(family, back=back, times=times)

    def refresh_at_once(self, family: Family, *, back: int, times: int) -> None:
        number = max(0, len(family.tokens) - 1 - back)
        refusal = family.refresh(number, self.now)
        answers = self.world.attempt(
            lambda _: sessions.refresh(
                self.auth, self.world.database, token=family.tokens[number], client=NOBODY, now=self.now
            ),
            times=times,
        )
        if refusal is None:
            ((successor, expires_at),) = {issued(answer) for answer in answers}
            assert expires_at == family.idle_until
            assert [successor] == family.tokens[number + 1 :] or number == len(family.tokens) - 1
            family.tokens[number + 1 :] = [successor]
        else:
            # Of parallel reuses, one may find that another has ended the family.
            assert refusal in map(type, answers)
            assert {type(answer) for answer in answers} <= {refusal, RefreshTokenNotFound}

    def sign_out(self, family: Family) -> None:
        self.done(lambda session: sessions.sign_out(self.auth, session, token=self.access_token(family), client=NOBODY))
        end([family])

    # One rule of four ways, or most families would end young.
    @rule(family=FAMILIES, way=st.sampled_from(["sign_out", "revoke_others", "revoke_all", "delete_account"]))
    def end_sessions(self, family: Family, way: str) -> None:
        getattr(self, way)(family)

    @rule(family=FAMILIES, other=FAMILIES)
    def revoke(self, family: Family, other: Family) -> None:
        if principal := self.let_in(family):
            (answer,) = self.world.attempt(lambda session: sessions.revoke(session, principal, other.id, client=NOBODY))
            assert isinstance(answer, NotFound) == (other.has_ended or other.owner is not family.owner)
            end([other] if answer is None else [])

    def revoke_others(self, family: Family) -> None:
        if principal := self.let_in(family):
            self.done(lambda session: sessions.revoke_others(session, principal, client=NOBODY))
            end(other for other in self.of(family.owner) if other is not family)

    def revoke_all(self, family: Family) -> None:
        if principal := self.let_in(family):
            self.done(lambda session: sessions.revoke_all(session, principal, client=NOBODY))
            end(self.of(family.owner))

    @rule(family=FAMILIES, back=st.integers(0, 1))
    def change_password(self, family: Family, back: int) -> None:
        current, new = family.owner.passwords[-1 - back], new_id().hex
        if principal := self.let_in(family):
            (answer,) = self.world.attempt(
                lambda session: accounts.change_password(
                    self.auth, session, principal, current_password=current, new_password=new, client=NOBODY
                )
            )
            assert isinstance(answer, InvalidCredentials) == bool(back)
            if answer is None:
                family.owner.passwords.append(new)
                end(other for other in self.of(family.owner) if other is not family)

    def delete_account(self, family: Family) -> None:
        if principal := self.let_in(family):
            (answer,) = self.world.attempt(
                lambda session: accounts.delete_account(self.auth, session, principal, client=NOBODY, now=self.now)
            )
            assert isinstance(answer, ReauthenticationRequired) == (self.now - family.signed_in_at > FRESH)
            if answer is None:
                family.owner.is_deleted = True
                end(self.of(family.owner))

    # What operators do

    @rule(account=ACCOUNTS)
    def disable_or_enable(self, account: Account) -> None:
        change = self.enabling if account.is_disabled else self.disabling
        (answer,) = self.world.attempt(change(account))
        assert isinstance(answer, AccountNotFound) == account.is_deleted
        if answer is None:
            account.is_disabled = not account.is_disabled
            end(self.of(account))

    # What happens by itself

    @rule(interval=INTERVALS)
    def time_passes(self, interval: timedelta) -> None:
        self.now += interval

    @rule()
    def the_expired_are_pruned(self) -> None:
        self.done(lambda session: UserSessionRepository(session).delete_expired(self.now))
        end(family for family in self.families if not family.lives(self.now))

    @invariant()
    def those_who_live_are_let_in_and_see_each_other(self) -> None:
        for family in self.families:
            if principal := self.let_in(family):
                listed = self.done(self.listing(principal))
                expected = {other.id for other in self.of(family.owner) if other.lives(self.now)}
                assert {user_session.id for user_session in listed} == expected

    # How

    def open_accounts(self) -> list[Account]:
        return [account for account in self.accounts if not (account.is_deleted or account.is_disabled)]

    def living(self) -> list[Family]:
        return [family for family in self.families if family.lives(self.now)]

    def of(self, account: Account) -> list[Family]:
        return [family for family in self.families if family.owner is account and not family.has_ended]

    def access_token(self, family: Family) -> str:
        # Issued at the real time: the model does not move the clock by which access tokens expire.
        return self.auth.access_tokens.issue(user_id=family.owner.id, session_id=family.id, now=utcnow())[0]

    def let_in(self, family: Family) -> Principal | None:
        """Authenticate with an access token of this session; None if it was rightly refused."""
        token = self.access_token(family)
        try:
            principal = self.world.runner.run(
                sessions.authenticate(self.auth, self.world.database, token=token, now=self.now)
            )
        except InvalidToken:
            principal = None
        assert (principal is not None) == family.lives(self.now)
        return principal

    def disabling(self, account: Account) -> Callable[[Session], Awaitable[None]]:
        return lambda session: accounts.disable(session, email=account.email, now=self.now)

    def enabling(self, account: Account) -> Callable[[Session], Awaitable[None]]:
        return lambda session: accounts.enable(session, email=account.email)

    def listing(self, principal: Principal) -> Callable[[Session], Awaitable[list[UserSession]]]:
        return lambda session: sessions.list_sessions(session, principal, now=self.now)

    def done[T](self, work: Callable[[Session], Awaitable[T]]) -> T:
        """Do work that must not be refused."""
        (answer,) = self.world.attempt(work)
        assert not isinstance(answer, AppError)
        return answer


def issued(answer: IssuedTokens | AppError) -> tuple[str, datetime]:
    assert not isinstance(answer, AppError)
    return answer.refresh_token, answer.refresh_expires_at


def end(families: Iterable[Family]) -> None:
    for family in families:
        family.has_ended = True


@pytest.fixture
def world(
    database: Database, database_settings: DatabaseSettings, auth: Auth, auth_settings: AuthSettings
) -> Iterator[World]:
    """Return the services in a loop of their own, because hypothesis calls the rules outside any loop."""
    fewer = auth_settings.model_copy(update={"sessions_per_user": SESSIONS_PER_USER})
    with (
        asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner,
        open_auth(fewer, throttle=auth.throttle) as own_auth,
    ):
        own = Database(database_settings, name="model")
        yield World(own_auth, own, runner)
        runner.run(own.close())


@pytest.mark.timeout(60 * EXAMPLES)
def test_sessions_do_what_their_model_says(world: World) -> None:
    many = settings(
        max_examples=EXAMPLES,
        stateful_step_count=STEPS,
        deadline=None,
        derandomize=EXAMPLES == FEW,  # the few are the same in every run
        database=None,
        suppress_health_check=list(HealthCheck),
    )

    class Played(SessionModel):
        def __init__(self) -> None:
            super().__init__(world)

    run_state_machine_as_test(Played, settings=many)
