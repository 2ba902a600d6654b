"""The events that endpoints can get, by name."""

from enum import StrEnum
from typing import Final


class EventName(StrEnum):
    """An event of an account: one of its jobs has ended, or the audit has recorded something about it."""

    JOB_COMPLETED = "job.completed"
    JOB_DISCARDED = "job.discarded"
    JOB_CANCELLED = "job.cancelled"
    EMAIL_CHANGED = "account.email_changed"
    EMAIL_CHANGE_UNDONE = "account.email_change_undone"
    PASSWORD_CHANGED = "account.password_changed"  # noqa: S105  # the name of an event
    SECOND_FACTOR_ADDED = "account.second_factor_added"
    SECOND_FACTOR_REMOVED = "account.second_factor_removed"
    PASSKEY_ADDED = "account.passkey_added"
    PASSKEY_REMOVED = "account.passkey_removed"
    PROVIDER_LINKED = "account.provider_linked"
    PROVIDER_UNLINKED = "account.provider_unlinked"
    KEY_CREATED = "account.key_created"
    KEY_REVOKED = "account.key_revoked"


OF_AUDIT: Final = tuple(
    sorted(name.removeprefix("account.") for name in EventName if name.value.startswith("account."))
)
"""The names that the audit has for them."""
TEST: Final = "webhook.test"
"""Sent only when the owner of an endpoint asks for it."""
