"""The audit: rows about accounts, newest first."""

from uuid import UUID

import pytest

from app_db import Database, Session
from app_db.models import AuditEvent, User
from app_db.repositories import walks
from app_db.repositories.audit import AuditFilter, AuditRepository
from app_db.repositories.users import UserRepository
from app_db.testing.plugin import MakeUser
from app_db.testing.queries import assert_queries
from app_db.types import new_id


def event(name: str, *, user_id: UUID | None = None) -> AuditEvent:
    return AuditEvent(id=new_id(), event=name, user_id=user_id, details={"by": "shell"})


async def test_an_audited_event_costs_no_query_before_the_commit(database: Database, session: Session) -> None:
    with assert_queries(database, max=0):
        AuditRepository(session).add(event("signed_in"))


async def test_what_happened_to_an_account_is_paged_newest_first(session: Session, make_user: MakeUser) -> None:
    user = await make_user()
    audit = AuditRepository(session)
    for name in ("registered", "signed_in", "signed_out"):
        audit.add(event(name, user_id=user.id))
    audit.add(event("sign_in_failed"))

    first = await audit.of_user(user.id, after=None, limit=2)
    second = await audit.of_user(user.id, after=first.next, limit=2)

    assert [[one.event for one in page.items] for page in (first, second)] == [
        ["signed_out", "signed_in"],
        ["registered"],
    ]


async def test_what_happened_lately_is_about_all_accounts_and_about_none(session: Session) -> None:
    audit = AuditRepository(session)
    audit.add(event("registered", user_id=new_id()))
    audit.add(event("sign_in_failed"))

    page = await audit.recent(after=None, limit=10)

    assert [one.event for one in page.items] == ["sign_in_failed", "registered"]


async def test_a_page_that_looked_at_enough_events_ends_early_and_leads_on(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(walks, "MOST_LOOKED_AT", 3)
    audit, user_id = AuditRepository(session), new_id()
    for name in ("registered", *["signed_in"] * 5):
        audit.add(event(name, user_id=user_id))
    wanted = AuditFilter(event="registered", user_id=user_id)

    first = await audit.matching(wanted, after=None, limit=2)
    second = await audit.matching(wanted, after=first.next, limit=2)
    third = await audit.matching(wanted, after=second.next, limit=2)

    assert [(len(page.items), page.partial) for page in (first, second, third)] == [(0, True), (1, True), (0, False)]
    assert third.next is None


async def test_the_audit_outlives_the_account(session: Session, make_user: MakeUser) -> None:
    user = await make_user()
    audit = AuditRepository(session)
    audit.add(event("registered", user_id=user.id))

    await UserRepository(session).delete(user.id)

    assert await session.get(User, user.id) is None
    assert [one.event for one in (await audit.of_user(user.id, after=None, limit=10)).items] == ["registered"]
