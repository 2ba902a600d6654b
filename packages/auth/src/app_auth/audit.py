"""The audit: events of accounts, written in the transaction of the event."""

from enum import StrEnum
from uuid import UUID

from app_auth.client import Client
from app_db import Session
from app_db.jobs.control import Action
from app_db.jobs.filters import JobFilter
from app_db.models import AuditEvent
from app_db.repositories.audit import AuditRepository


class Event(StrEnum):
    """The events that the audit records."""

    REGISTERED = "registered"
    EMAIL_VERIFIED = "email_verified"
    VERIFICATION_REQUESTED = "verification_requested"
    SIGNED_IN = "signed_in"
    SIGN_IN_FAILED = "sign_in_failed"
    SIGN_IN_CHALLENGED = "sign_in_challenged"
    SIGN_IN_LINK_REQUESTED = "sign_in_link_requested"
    SIGNED_OUT = "signed_out"
    REFRESH_REUSED = "refresh_reused"
    SESSION_REVOKED = "session_revoked"
    SESSIONS_REVOKED = "sessions_revoked"
    PASSWORD_CHANGED = "password_changed"  # noqa: S105  # the name of an event
    PASSWORD_CHANGE_FAILED = "password_change_failed"  # noqa: S105  # the name of an event
    PASSWORD_RESET_REQUESTED = "password_reset_requested"  # noqa: S105  # the name of an event
    PASSWORD_RESET = "password_reset"  # noqa: S105  # the name of an event
    EMAIL_CHANGE_REQUESTED = "email_change_requested"
    EMAIL_CHANGED = "email_changed"
    EMAIL_CHANGE_UNDONE = "email_change_undone"
    SECOND_FACTOR_ADDED = "second_factor_added"
    SECOND_FACTOR_REMOVED = "second_factor_removed"
    SECOND_FACTOR_FAILED = "second_factor_failed"
    RECOVERY_CODES_RENEWED = "recovery_codes_renewed"
    MAIL_UNDELIVERABLE = "mail_undeliverable"
    ACCOUNT_DELETED = "account_deleted"
    ACCOUNT_DISABLED = "account_disabled"
    ACCOUNT_ENABLED = "account_enabled"
    ROLE_CHANGED = "role_changed"
    JOBS_ACTED_ON = "jobs_acted_on"
    JOBS_BULK_STARTED = "jobs_bulk_started"
    JOB_RERUN = "job_rerun"
    JOB_REVEALED = "job_revealed"
    QUEUE_PAUSED = "queue_paused"
    QUEUE_RESUMED = "queue_resumed"
    QUEUE_LIMITED = "queue_limited"
    KIND_LIMITED = "kind_limited"
    CRON_RUN_REQUESTED = "cron_run_requested"
    CRON_ADDED = "cron_added"
    CRON_CHANGED = "cron_changed"
    CRON_PAUSED = "cron_paused"
    CRON_RESUMED = "cron_resumed"
    CRON_DELETED = "cron_deleted"
    AUDIT_EXPORTED = "audit_exported"
    AUDIT_MONTH_DROPPED = "audit_month_dropped"
    AUDIT_MONTH_EXPORTED = "audit_month_exported"
    EXPORT_REQUESTED = "export_requested"
    KEY_CREATED = "key_created"
    KEY_REVOKED = "key_revoked"
    PASSKEY_ADDED = "passkey_added"
    PASSKEY_REMOVED = "passkey_removed"
    PROVIDER_LINKED = "provider_linked"
    PROVIDER_UNLINKED = "provider_unlinked"
    WEBHOOK_CREATED = "webhook_created"
    WEBHOOK_CHANGED = "webhook_changed"
    WEBHOOK_ROTATED = "webhook_rotated"
    WEBHOOK_DELETED = "webhook_deleted"
    WEBHOOK_DISABLED = "webhook_disabled"


type Detail = str | int | bool

SHELL = "shell"
"""The value of `by` for a command on a server, which has no session."""


def audit(
    session: Session,
    event: Event,
    *,
    client: Client,
    user_id: UUID | None = None,
    actor_id: UUID | None = None,
    session_id: UUID | None = None,
    **details: Detail | None,
) -> None:
    """Add a row about `user_id` to the audit, committed only with the transaction. Makes no query.

    An error's `aftermath` writes rows that must survive its rollback. `actor_id` is the user who acted, if it was
    another. Put no secrets and e-mail addresses in `details`: rows outlive the account. None values are left out.
    """
    row = audit_row(event, client=client, user_id=user_id, actor_id=actor_id, session_id=session_id, **details)
    AuditRepository(session).add(row)


def audit_row(
    event: Event,
    *,
    client: Client,
    user_id: UUID | None = None,
    actor_id: UUID | None = None,
    session_id: UUID | None = None,
    **details: Detail | None,
) -> AuditEvent:
    """Return the row that `audit` adds, for a statement that writes it together with others."""
    return AuditEvent(
        event=event.value,
        user_id=user_id,
        actor_id=actor_id,
        session_id=session_id,
        client_address=client.address,
        request_id=client.request_id,
        details={name: value for name, value in details.items() if value is not None},
    )


def audit_jobs(
    session: Session,
    event: Event,
    job_filter: JobFilter,
    action: Action,
    *,
    client: Client,
    actor_id: UUID | None,
    session_id: UUID | None = None,
    job_id: UUID | None = None,
    count: int | None = None,
) -> None:
    """Add a row about an action on many jobs: what was done to which, and how many; see `audit`.

    `job_id` is the job that does it, if it is one of `app_db.features.jobs`.
    """
    audit(
        session,
        event,
        client=client,
        actor_id=actor_id,
        session_id=session_id,
        action=action.value,
        count=count,
        job=None if job_id is None else str(job_id),
        kind=job_filter.kind,
        queue=job_filter.queue,
        state=job_filter.state,
        owner=None if job_filter.owner_id is None else str(job_filter.owner_id),
        batch=None if job_filter.batch_id is None else str(job_filter.batch_id),
        since=None if job_filter.since is None else job_filter.since.isoformat(),
        before=None if job_filter.before is None else job_filter.before.isoformat(),
    )
