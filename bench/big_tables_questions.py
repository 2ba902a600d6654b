"""What operators ask: each list with every combination of its filters, each count, and what bulk actions do."""

from collections.abc import Awaitable, Callable, Iterator
from datetime import timedelta
from functools import partial
from itertools import product
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import select

from app_api.features.jobs.operator_bulk_pages import MOST_COUNTED
from app_api.features.jobs.service import AT_ONCE
from app_db import Session
from app_db.features.figures.models import Span
from app_db.features.figures.repository import FigureRepository
from app_db.jobs import control
from app_db.jobs.control import Action
from app_db.jobs.counting import count_all
from app_db.jobs.filters import JobFilter
from app_db.models import Job, JobState, Role, User
from app_db.repositories.account_lists import AccountFilter, AccountState
from app_db.repositories.audit import AuditFilter, AuditRepository
from app_db.repositories.job_failures import account_and_jobs_with_error, failing_kinds
from app_db.repositories.jobs import JobRepository
from app_db.repositories.users import UserRepository
from app_db.repositories.walks import MOST_LOOKED_AT
from app_db.types import utcnow

KINDS = (None, "email.welcome", "email.notice", "seldom.kind", "misspelt.kind")
QUEUES = (None, "default", "mail", "empty")
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
PAGE = 20

type Ask = Callable[[Session], Awaitable[Any]]  # Any: a page, or counts


class Question(NamedTuple):
    """One question; the lines of a group are one line of the table."""

    group: str
    name: str
    ask: Ask
    writes: bool = False


class Known(NamedTuple):
    """What is in the tables: an account, an operator, an owner of jobs, and a few jobs."""

    user_id: UUID
    actor_id: UUID
    owner_id: UUID
    job_ids: tuple[UUID, ...]

    @classmethod
    async def look_up(cls, session: Session) -> "Known":
        """Look for them."""
        operator = select(User.id).where(User.role == Role.OPERATOR).order_by(User.id).limit(1)
        user = select(User.id).where(User.email_canonical == "user500@example.com")
        jobs = (await session.scalars(select(Job).order_by(Job.id.desc()).limit(PAGE))).all()
        owner_id = jobs[0].owner_id
        assert owner_id is not None
        return cls(
            (await session.scalars(user)).one(),
            (await session.scalars(operator)).one(),
            owner_id,
            tuple(job.id for job in jobs),
        )


def questions(known: Known) -> Iterator[Question]:
    """Yield all of them."""
    yield from jobs(known)
    yield from accounts()
    yield from events(known)
    yield from counts(known)
    yield from would_be(known)
    yield from actions()


def named(**given: object) -> str:
    """Return the filter as a line shows it."""
    return " ".join(f"{key}={value}" for key, value in given.items() if value) or "all"


def jobs(known: Known) -> Iterator[Question]:
    """Yield the lists of jobs."""
    now = utcnow()
    wide = product((None, *JobState), KINDS, QUEUES)
    found = [("jobs", JobFilter(state=state, kind=kind, queue=queue)) for state, kind, queue in wide]
    ages = [(now - age, None) for age in (HOUR, DAY, 7 * DAY)] + [(None, now - age) for age in (HOUR, DAY)]
    for state, kind in product((None, *JobState), KINDS):
        found.append(("jobs of an account", JobFilter(state=state, kind=kind, owner_id=known.owner_id)))
        found += [
            ("jobs of an age", JobFilter(state=state, kind=kind, since=since, before=before)) for since, before in ages
        ]
        found.append(("jobs of ids", JobFilter(state=state, kind=kind, ids=known.job_ids)))
    for group, job_filter in found:
        name = named(**{key: getattr(job_filter, key) for key in JobFilter.__slots__ if key != "ids"})
        yield Question(group, name, partial(_matching_jobs, job_filter))


async def _matching_jobs(job_filter: JobFilter, session: Session) -> object:
    return await JobRepository(session).matching(job_filter, after=None, limit=PAGE)


def accounts() -> Iterator[Question]:
    """Yield the lists of accounts."""
    now = utcnow()
    sign_ins: list[dict[str, Any]] = [  # Any: a time, or a bool
        {}, {"signed_in_since": now - DAY}, {"signed_in_since": now - 30 * DAY},
        {"signed_in_before": now - 30 * DAY}, {"signed_in_before": now - 365 * DAY}, {"never_signed_in": True},
    ]  # fmt: skip
    addresses = ("", "user5", "user99999@", "nobody")
    for state, role, sign_in, address in product((None, *AccountState), (None, *Role), sign_ins, addresses):
        wanted = AccountFilter(address=address, state=state, role=role, **sign_in)
        yield Question(
            "accounts by address" if address else "accounts",
            named(address=address, state=state, role=role, **sign_in),
            partial(_matching_accounts, wanted),
        )


async def _matching_accounts(wanted: AccountFilter, session: Session) -> object:
    return await UserRepository(session).matching(wanted, after=None, limit=PAGE)


def events(known: Known) -> Iterator[Question]:
    """Yield the lists of the audit."""
    now = utcnow()
    kinds = (None, "signed_in", "sign_in_failed", "role_changed", "misspelt")
    clients = (None, "192.0.2.1", "2001:db8::1", "192.0.2.9")
    times = ((None, None), (now - DAY, None), (None, now - 180 * DAY), (now - 90 * DAY, now - 60 * DAY))
    for kind, user_id, actor_id, client in product(kinds, (None, known.user_id), (None, known.actor_id), clients):
        for since, before in times:
            wanted = AuditFilter(kind, user_id, actor_id, client, since, before)
            name = named(**{key: getattr(wanted, key) for key in AuditFilter.__slots__})
            yield Question("audit", name, partial(_matching_events, wanted))


async def _matching_events(wanted: AuditFilter, session: Session) -> object:
    return await AuditRepository(session).matching(wanted, after=None, limit=PAGE)


def counts(known: Known) -> Iterator[Question]:
    """Yield the counts, and the pages that are no list."""
    asked: dict[str, Ask] = {
        "queues": lambda session: JobRepository(session).queues(),
        "stats": lambda session: JobRepository(session).stats(),
        "open jobs": lambda session: JobRepository(session).open_counts(),
        "system": lambda session: JobRepository(session).system(running=PAGE),
        "crons": lambda session: JobRepository(session).crons(),
        "kinds that fail": lambda session: failing_kinds(session, since=utcnow() - DAY),
        "an account's address": lambda session: account_and_jobs_with_error(
            session, email="user7@example.com", error=""
        ),
        "text in errors": lambda session: account_and_jobs_with_error(session, email=None, error="host 3"),
        "text in no error": lambda session: account_and_jobs_with_error(session, email=None, error="misspelt"),
        "an account with sessions": lambda session: UserRepository(session).with_sessions(known.user_id),
        "figures of a day": lambda session: FigureRepository(session).within(Span.MINUTE, DAY),
        "newest events": lambda session: AuditRepository(session).newest(PAGE),
        "where the audit begins": lambda session: AuditRepository(session).begins_at(AuditFilter(event="misspelt")),
    }
    yield from (Question("counts", name, ask) for name, ask in asked.items())


FEW = (
    JobFilter(kind="misspelt.kind"),
    JobFilter(queue="empty"),
    JobFilter(kind="seldom.kind"),
    JobFilter(state=JobState.RETRYABLE),
)
MANY = (JobFilter(state=JobState.SCHEDULED), JobFilter(kind="email.notice"), JobFilter(queue="mail"))


def would_be(known: Known) -> Iterator[Question]:
    """Yield the counts of what an action would act on."""
    for action, job_filter in product(Action, (*FEW, *MANY, JobFilter(owner_id=known.owner_id))):
        name = f"{action} {_name(job_filter)}"
        yield Question("what an action would act on", name, partial(_count, job_filter, action))


async def _count(job_filter: JobFilter, action: Action, session: Session) -> object:
    return await count_all(session, job_filter, action, most=MOST_COUNTED)


def actions() -> Iterator[Question]:
    """Yield the actions on many jobs at once, for filters that match few; `measure` rolls them back."""
    for action, job_filter in product(Action, FEW):
        yield Question("actions", f"{action} {_name(job_filter)}", partial(_act, job_filter, action), writes=True)


async def _act(job_filter: JobFilter, action: Action, session: Session) -> object:
    return await control.act_on_all(session, job_filter, action, limit=AT_ONCE, most_looked_at=MOST_LOOKED_AT)


def _name(job_filter: JobFilter) -> str:
    return named(
        state=job_filter.state, kind=job_filter.kind, queue=job_filter.queue, owner=job_filter.owner_id is not None
    )
