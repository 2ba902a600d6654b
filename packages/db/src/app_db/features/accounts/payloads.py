"""The jobs that write to the owners of accounts."""

from enum import StrEnum
from uuid import UUID

from app_db.jobs.payload import JobPayload
from app_db.models import TokenPurpose


class WelcomeEmail(JobPayload):
    """Greet a new user by mail."""

    kind = "email.welcome"
    user_id: UUID


class Notice(StrEnum):
    """Events that the owner of an account is told of by mail."""

    REFRESH_REUSED = "refresh_reused"
    PASSWORD_CHANGED = "password_changed"  # noqa: S105  # the name of an event
    PASSWORD_RESET = "password_reset"  # noqa: S105  # the name of an event
    KEY_CREATED = "key_created"
    KEY_REVOKED = "key_revoked"
    EMAIL_CHANGE_UNDONE = "email_change_undone"
    PASSKEY_ADDED = "passkey_added"
    PASSKEY_REMOVED = "passkey_removed"
    PASSKEY_COPIED = "passkey_copied"
    SECOND_FACTOR_ADDED = "second_factor_added"
    SECOND_FACTOR_REMOVED = "second_factor_removed"
    RECOVERY_CODE_USED = "recovery_code_used"
    RECOVERY_CODES_RENEWED = "recovery_codes_renewed"
    PROVIDER_LINKED = "provider_linked"
    PROVIDER_UNLINKED = "provider_unlinked"
    PROVIDER_NOT_LINKED = "provider_not_linked"


class SecurityNotice(JobPayload):
    """Tell the owner of an account by mail that something happened to it."""

    kind = "email.notice"
    user_id: UUID
    what: Notice


class RegistrationNotice(JobPayload):
    """Tell the owner of an account by mail that somebody tried to register with its address."""

    kind = "email.registration"
    user_id: UUID | None
    """None when the account has gone meanwhile."""


class OneTimeLink(JobPayload):
    """Make a link for this purpose and have it mailed to the owner of the account, if they may have one."""

    kind = "account.link"
    user_id: UUID | None
    """None if the address has no account; the job is enqueued all the same, so that the client cannot tell."""
    purpose: TokenPurpose


class OneTimeEmail(JobPayload):
    """Mail the link of a one-time token."""

    kind = "email.link"
    token_id: UUID


class AccountErasure(JobPayload):
    """Erase results, progress and errors of the jobs of a deleted account."""

    kind = "account.erase"
    user_id: UUID
