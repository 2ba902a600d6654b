"""Lists of accounts and of the audit beside many others: right, and without reading the table for few rows."""

from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from itertools import product
from uuid import UUID

import pytest
import pytest_asyncio
from sqlalchemy import ColumnElement, func, select, text

from app_db import Database, Session, open_database
from app_db.models import AuditEvent, Role, User
from app_db.paging import Cursor, Slice
from app_db.repositories.account_lists import MOST_ADDRESSES, AccountFilter, AccountState
from app_db.repositories.audit import AuditFilter, AuditRepository
from app_db.repositories.users import UserRepository
from app_db.repositories.walks import MOST_LOOKED_AT
from app_db.settings import DatabaseSettings
from app_db.testing.queries import assert_queries
from app_db.types import first_id_at, new_id, utcnow

pytestmark = pytest.mark.integration

ROWS = 60_000
PAGE = 20
ADA, EVE = new_id(), new_id()
PLANS = pytest.mark.parametrize("plan", ["force_custom_plan", "force_generic_plan"])

# The oldest third was never verified, few are disabled, and very few operate or get no mail.
SEED = text("""
    INSERT INTO users (
        id, email, email_canonical, password_hash, role, email_verified_at, disabled_at, undeliverable_at, signed_in_at
    )
    SELECT uuidv7(make_interval(secs => number - :rows)), email, email, '', CASE WHEN number % 9000 = 1 THEN 'operator'
            ELSE 'user' END,
        CASE WHEN number > 20000 THEN now() END, CASE WHEN number % 1000 = 1 THEN now() END,
        CASE WHEN number % 5000 = 1 THEN now() END,
        CASE WHEN number % 3 = 0 THEN now() - make_interval(secs => number / 2) END
    FROM (SELECT number, 'user_' || number || '@example.com' AS email FROM generate_series(1, :rows) AS number) AS many
""")
AUDIT = text("""
    INSERT INTO audit_events (id, event, user_id, actor_id, client_address)
    SELECT uuidv7(make_interval(secs => number - :rows)),
        CASE WHEN number % 7000 = 1 THEN 'role_changed' WHEN number % 2 = 0 THEN 'signed_in' ELSE 'sign_in_failed' END,
        CASE WHEN number % 100 = 1 THEN CAST(:ada AS uuid) ELSE uuidv7() END,
        CASE WHEN number % 7000 = 1 THEN CAST(:eve AS uuid) END,
        CASE WHEN number % 10 < 8 THEN '192.0.2.1' WHEN number % 500 = 8 THEN '2001:db8::1' END
    FROM generate_series(1, :rows) AS number
""")


# Each account has two sessions, and one that has expired.
SESSIONS = text("""
    INSERT INTO user_sessions (id, user_id, refresh_key_id, idle_expires_at, expires_at)
    SELECT uuidv7(), id, 'k', now() + make_interval(days => number), now() + interval '1 year'
    FROM users, unnest(ARRAY[-1, 1, 2]) AS number
""")


@pytest_asyncio.fixture(loop_scope="session")
async def patient(database_settings: DatabaseSettings) -> AsyncIterator[Database]:
    """The database of the test, without limits: filling it takes seconds on a busy machine."""
    limits = {"statement_timeout": timedelta(0), "command_timeout": None}
    async with open_database(database_settings.model_copy(update=limits), name="patient") as database:
        yield database


@pytest_asyncio.fixture(loop_scope="session")
async def large(patient: Database) -> AsyncIterator[Session]:
    """A session whose open transaction has many accounts and events, which no other session ever sees."""
    async with patient.sessions() as session:
        await session.execute(SEED, {"rows": ROWS})
        await session.execute(AUDIT, {"rows": ROWS, "ada": ADA, "eve": EVE})
        await session.execute(text("ANALYZE users, audit_events"))
        yield session
        await session.rollback()


def account_filters() -> Iterator[AccountFilter]:
    hour = utcnow() - timedelta(hours=1)
    sign_ins: list[dict[str, object]] = [
        {}, {"signed_in_since": hour}, {"signed_in_before": hour}, {"never_signed_in": True},
    ]  # fmt: skip
    addresses = ("", "user_5", "user_59999@example.com", "nobody")
    for state, role, sign_in, address in product((None, *AccountState), (None, *Role), sign_ins, addresses):
        yield AccountFilter(address=address, state=state, role=role, **sign_in)  # type: ignore[arg-type]


def audit_filters() -> Iterator[AuditFilter]:
    hour = utcnow() - timedelta(hours=1)
    events = (None, "signed_in", "role_changed", "misspelt")
    clients = (None, "192.0.2.1", "2001:db8::1")
    for event, user_id, actor_id, client in product(events, (None, ADA), (None, EVE), clients):
        for since, before in ((None, None), (hour, None), (None, hour), (hour - timedelta(hours=8), hour)):
            yield AuditFilter(event, user_id, actor_id, client, since, before)


def plain(wanted: AccountFilter) -> list[ColumnElement[bool]]:
    """Return what the filter means, without the repository."""
    columns = {
        AccountState.VERIFIED: User.email_verified_at.is_not(None),
        AccountState.UNVERIFIED: User.email_verified_at.is_(None),
        AccountState.DISABLED: User.disabled_at.is_not(None),
        AccountState.UNDELIVERABLE: User.undeliverable_at.is_not(None),
    }
    conditions: list[ColumnElement[bool]] = [func.starts_with(User.email_canonical, wanted.address)]
    conditions += [columns[wanted.state]] if wanted.state else []
    conditions += [User.role == wanted.role] if wanted.role else []
    conditions += [User.signed_in_at >= wanted.signed_in_since] if wanted.signed_in_since else []
    conditions += [User.signed_in_at < wanted.signed_in_before] if wanted.signed_in_before else []
    return [*conditions, User.signed_in_at.is_(None)] if wanted.never_signed_in else conditions


def times_of(wanted: AuditFilter) -> list[ColumnElement[bool]]:
    """Return the conditions of time, without the repository."""
    conditions = [AuditEvent.id >= first_id_at(wanted.since)] if wanted.since else []
    return [*conditions, AuditEvent.id < first_id_at(wanted.before)] if wanted.before else conditions


async def rows_read(session: Session, table: str) -> tuple[int, int]:
    counts = text("""
        SELECT sum(seq_tup_read) AS seq_tup_read, sum(idx_tup_fetch) AS idx_tup_fetch FROM pg_stat_xact_user_tables
        WHERE relname = :table OR relid IN (SELECT relid FROM pg_partition_tree(CAST(:table AS regclass)))
    """)
    row = (await session.execute(counts, {"table": table})).one()
    return int(row.seq_tup_read), int(row.idx_tup_fetch)


def may_read(page: Slice[User] | Slice[AuditEvent]) -> int:
    """Those that the walk tries, those that it counts to say where it ended, and those of the page by their ids."""
    return 2 * MOST_LOOKED_AT + PAGE + 3 if page.partial or len(page.items) == PAGE else 2 * MOST_LOOKED_AT


@PLANS
async def test_no_list_of_accounts_reads_the_table(large: Session, plan: str) -> None:
    await large.execute(text(f"SET LOCAL plan_cache_mode = {plan}"))
    for wanted in account_filters():
        whole_before, index_before = await rows_read(large, "users")

        page = await UserRepository(large).matching(wanted, after=None, limit=PAGE)

        whole, index = await rows_read(large, "users")
        # A whole beginning is few addresses; one condition alone is found without looking at others.
        alone = [wanted.state, wanted.role, wanted.is_by_sign_in].count(None) == 2 and not wanted.is_by_sign_in
        at_once = alone and wanted.state is not AccountState.VERIFIED and wanted.role is not Role.USER
        most = 3 * MOST_ADDRESSES if wanted.address else PAGE + 1 if at_once else may_read(page)
        assert whole == whole_before, wanted
        assert index - index_before <= most < ROWS, wanted


@PLANS
async def test_no_list_of_the_audit_reads_the_table(large: Session, plan: str) -> None:
    await large.execute(text(f"SET LOCAL plan_cache_mode = {plan}"))
    for wanted in audit_filters():
        whole_before, index_before = await rows_read(large, "audit_events")

        page = await AuditRepository(large).matching(wanted, after=None, limit=PAGE)

        whole, index = await rows_read(large, "audit_events")
        most = 3 * PAGE if len(wanted.given) < 2 else may_read(page)
        assert whole == whole_before, wanted
        assert index - index_before <= most < ROWS, wanted


@PLANS
async def test_the_newest_events_of_some_accounts_are_read_without_the_others(large: Session, plan: str) -> None:
    await large.execute(text(f"SET LOCAL plan_cache_mode = {plan}"))
    audit, nobody = AuditRepository(large), new_id()

    before = await rows_read(large, "audit_events")
    events = await audit.newest_of_each({ADA, nobody}, limit=PAGE)
    after = await rows_read(large, "audit_events")

    assert after[0] == before[0]
    assert after[1] - before[1] <= PAGE
    assert (len(events[ADA]), events[nobody]) == (PAGE, [])
    of_ada = (await audit.of_user(ADA, after=None, limit=PAGE)).items
    assert [event.id for event in events[ADA]] == [event.id for event in of_ada]
    assert [event.id for event in await audit.newest(PAGE)] == [
        event.id for event in (await audit.recent(after=None, limit=PAGE)).items
    ]


async def pages(find: object, wanted: object, *, limit: int, most: int) -> tuple[list[UUID], bool]:
    """Return the rows of the first pages, at least `most`, and whether those are all."""
    found: list[UUID] = []
    after: Cursor | None = None
    while len(found) < most:
        page = await find(wanted, after=None if after is None else Cursor.parse(str(after)), limit=limit)  # type: ignore[operator]
        assert len(page.items) <= limit
        found += [row.id for row in page.items]
        after = page.next
        if after is None:
            return found, not page.partial
    return found, False


async def test_each_filter_finds_the_accounts_that_match_page_by_page(large: Session) -> None:
    for wanted in account_filters():
        by = (
            (User.signed_in_at.desc(), User.id.desc())
            if wanted.is_by_sign_in and not wanted.address
            else (User.id.desc(),)
        )
        matching = list(await large.scalars(select(User.id).where(*plain(wanted)).order_by(*by)))

        found, is_all = await pages(UserRepository(large).matching, wanted, limit=7, most=30)

        if wanted.address == "user_5":  # more than a thousand: the first by their addresses
            assert set(found) <= set(matching)
        else:
            assert (found == matching) if is_all else (found == matching[: len(found)]), wanted


async def test_each_filter_finds_the_events_that_match_page_by_page(large: Session) -> None:
    for wanted in audit_filters():
        conditions = [*wanted.equal(wanted.given), *times_of(wanted)]
        statement = select(AuditEvent.id).where(*conditions).order_by(AuditEvent.id.desc())
        matching = list(await large.scalars(statement))

        found, is_all = await pages(AuditRepository(large).matching, wanted, limit=7, most=30)

        assert (found == matching) if is_all else (found == matching[: len(found)]), wanted


async def test_a_beginning_of_too_many_addresses_says_so(large: Session) -> None:
    users = UserRepository(large)

    many = await users.matching(AccountFilter(address="user_5"), after=None, limit=PAGE)
    one = await users.matching(AccountFilter(address="user_51@"), after=None, limit=PAGE)
    literal = await users.matching(AccountFilter(address="user%"), after=None, limit=PAGE)

    assert (many.partial, len(many.items)) == (True, PAGE)
    assert ([user.email for user in one.items], one.partial) == (["user_51@example.com"], False)
    assert literal.items == []


async def test_a_list_costs_one_query(large: Session, patient: Database) -> None:
    with assert_queries(patient, max=1):
        seldom = await AuditRepository(large).matching(AuditFilter("role_changed", ADA), after=None, limit=PAGE)
    with assert_queries(patient, max=1):
        page = await UserRepository(large).matching(
            AccountFilter(state=AccountState.VERIFIED, role=Role.USER), after=None, limit=PAGE
        )

    assert not seldom.partial
    assert len(page.items) == PAGE


@PLANS
async def test_an_account_and_its_sessions_are_read_without_the_others(large: Session, plan: str) -> None:
    await large.execute(text(f"SET LOCAL plan_cache_mode = {plan}"))
    await large.execute(SESSIONS)
    await large.execute(text("ANALYZE user_sessions"))
    user_id = (await large.scalars(select(User.id).where(User.email == "user_30000@example.com"))).one()
    before = [await rows_read(large, table) for table in ("users", "user_sessions")]

    found = await UserRepository(large).with_sessions(user_id)

    after = [await rows_read(large, table) for table in ("users", "user_sessions")]
    assert found is not None
    assert (found[0].id, len(found[1])) == (user_id, 2)
    assert [one.id for one in found[1]] == sorted((one.id for one in found[1]), reverse=True)
    assert [(new[0] - old[0], new[1] - old[1]) for old, new in zip(before, after, strict=True)] == [(0, 1), (0, 3)]
    assert await UserRepository(large).with_sessions(new_id()) is None


async def test_the_begin_of_the_events_that_match_is_known(large: Session) -> None:
    audit = AuditRepository(large)
    oldest = (await large.scalars(select(AuditEvent.happened_at).order_by(AuditEvent.id).limit(1))).one()

    assert await audit.begins_at(AuditFilter()) == oldest
    assert await audit.begins_at(AuditFilter(event="misspelt")) is None
