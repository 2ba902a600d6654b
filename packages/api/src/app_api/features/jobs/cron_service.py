"""What operators do to crons; the audit says who did what."""

from typing import Final

from app_api.features.jobs.reruns import PAYLOADS
from app_auth.audit import Event, audit
from app_auth.auth import Auth
from app_auth.client import Client
from app_auth.permissions import require_fresh
from app_auth.principal import Principal
from app_db import Session
from app_db.jobs import schedules
from app_db.jobs.crons import CronNotFound, request_run
from app_db.jobs.schedule_values import ScheduleValues
from app_db.repositories.job_views import CronOverview
from app_db.repositories.jobs import JobRepository
from app_db.repositories.schedules import ScheduleRepository

KINDS: Final = PAYLOADS
"""The kinds of jobs that operators may schedule: those that they may run again."""


async def all_crons(session: Session) -> list[CronOverview]:
    """Return the crons, those in code and those of the table, by name."""
    crons = [*await JobRepository(session).crons(), *await ScheduleRepository(session).first()]
    return sorted(crons, key=lambda cron: (cron.name, cron.schedule is not None))


async def shown(session: Session, name: str) -> CronOverview:
    """Return a cron of the table.

    Raises:
        CronNotFound: it has none of this name.
    """
    cron = await ScheduleRepository(session).named(name)
    if cron is None:
        raise CronNotFound
    return cron


async def add(
    session: Session, name: str, values: ScheduleValues, *, principal: Principal, client: Client
) -> CronOverview:
    """Add a cron to the table.

    Raises:
        InvalidSchedule: a value is not acceptable.
        CronNameTaken: there is one of this name.
    """
    await schedules.add_schedule(session, name, values, by=str(principal.user_id), payload_classes=KINDS)
    _audit(session, Event.CRON_ADDED, name, principal=principal, client=client, kind=values.kind)
    return await shown(session, name)


async def change(
    session: Session, name: str, values: ScheduleValues, *, version: int, principal: Principal, client: Client
) -> CronOverview:
    """Give a cron of the table other values.

    Raises:
        InvalidSchedule: a value is not acceptable.
        CronNotFound, CronInCode, CronChanged: there is none to be changed, or it was changed meanwhile.
    """
    await schedules.change_schedule(
        session, name, values, version=version, by=str(principal.user_id), payload_classes=KINDS
    )
    _audit(session, Event.CRON_CHANGED, name, principal=principal, client=client, kind=values.kind)
    return await shown(session, name)


async def pause(session: Session, name: str, *, principal: Principal, client: Client) -> None:
    """Let no more ticks become jobs.

    Raises:
        CronNotFound, CronInCode: the table has no such cron.
    """
    await schedules.pause_schedule(session, name, by=str(principal.user_id))
    _audit(session, Event.CRON_PAUSED, name, principal=principal, client=client)


async def resume(session: Session, name: str, *, principal: Principal, client: Client) -> None:
    """Go on with the next tick.

    Raises:
        CronNotFound, CronInCode: the table has no such cron.
    """
    await schedules.resume_schedule(session, name)
    _audit(session, Event.CRON_RESUMED, name, principal=principal, client=client)


async def run(session: Session, name: str, *, principal: Principal, client: Client) -> None:
    """Enqueue a job of a cron of the table besides its ticks, or ask the workers for one of a cron in code.

    Raises:
        CronNotFound: there is no such cron.
        CronNotServed: it is code, and no worker has it.
        CronKindGone: this release has no class for its payload.
    """
    if await schedules.run_schedule_now(session, name, payload_classes=KINDS) is None:
        await request_run(session, name)
    _audit(
        session, Event.CRON_RUN_REQUESTED, name, principal=principal, client=client
    )  # guard: test_who_runs_a_cron_is_audited


async def delete(auth: Auth, session: Session, name: str, *, principal: Principal, client: Client) -> None:
    """Delete a cron of the table, or what is on record of one that is no longer in code; their jobs stay.

    Raises:
        CronNotFound, CronInCode: there is none to be deleted.
        ReauthenticationRequired: the sign-in has to be fresh.
    """
    await require_fresh(auth, session, principal)  # guard: test_deleting_a_cron_needs_a_fresh_sign_in
    await schedules.delete_schedule(session, name)
    _audit(session, Event.CRON_DELETED, name, principal=principal, client=client)


def _audit(
    session: Session, event: Event, name: str, *, principal: Principal, client: Client, kind: str | None = None
) -> None:
    audit(
        session,
        event,
        client=client,
        actor_id=principal.user_id,
        session_id=principal.session_id,
        cron=name,
        kind=kind,
    )  # guard: test_who_acts_on_a_cron_is_audited
