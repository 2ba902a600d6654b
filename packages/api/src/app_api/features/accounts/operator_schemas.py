"""Accounts and the audit on the wire, for operators."""

from datetime import UTC, datetime
from typing import Annotated, Any
from uuid import UUID

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field

from app_api.paging import Page
from app_auth.addresses import beginning_of
from app_auth.audit import Event
from app_db.models import Role
from app_db.repositories.account_lists import AccountFilter, AccountState
from app_db.repositories.audit import AuditFilter


def _in_utc(time: datetime) -> datetime:
    try:
        return time.astimezone(UTC)
    except OverflowError:
        raise ValueError("give a time of the years 1 to 9999 in UTC") from None


Moment = Annotated[AwareDatetime, AfterValidator(_in_utc)]


class AccountSelection(BaseModel):
    """Which accounts are meant: those that match all that is given; all if nothing is."""

    address: Annotated[str, Field(max_length=320)] = ""
    """The beginning of the address, in any spelling; of more than a thousand that have it, the first are listed."""
    state: AccountState | None = None
    role: Role | None = None
    signed_in_since: Moment | None = None
    signed_in_before: Moment | None = None
    never_signed_in: bool = False
    """Not since sign-ins are recorded."""

    def to_filter(self) -> AccountFilter:
        """Return the filter for the repository."""
        return AccountFilter(**dict(self) | {"address": beginning_of(self.address)})


class AccountRead(BaseModel):
    """An account as operators see it."""

    model_config = ConfigDict(from_attributes=True)

    id: UUID
    email: str
    role: Role
    created_at: datetime
    email_verified_at: datetime | None
    disabled_at: datetime | None
    undeliverable_at: datetime | None
    """When a mail server last refused mail to it for good."""
    undeliverable_because: str | None
    signed_in_at: datetime | None
    """When somebody last signed in."""


class AccountPage(Page[AccountRead]):
    """Accounts: the newest first, or the last sign-in first if the selection names it."""

    partial: bool
    """Whether a limit ended the search: go on with `next`, or give more of the address."""


class AuditSelection(BaseModel):
    """Which events are meant: those that match all that is given; all if nothing is."""

    event: Event | None = None
    user_id: UUID | None = None
    """The account that it happened to, also one that is gone."""
    actor_id: UUID | None = None
    """The operator who did it."""
    client_address: Annotated[str, Field(max_length=64)] | None = None
    since: Moment | None = None
    before: Moment | None = None

    def to_filter(self) -> AuditFilter:
        """Return the filter for the repository."""
        return AuditFilter(**dict(self))


class AuditEventRead(BaseModel):
    """An event of the audit."""

    model_config = ConfigDict(from_attributes=True)

    id: UUID
    happened_at: datetime
    event: str
    user_id: UUID | None
    """The account that it happened to."""
    actor_id: UUID | None
    """The operator who did it, if it was not the account itself."""
    session_id: UUID | None
    client_address: str | None
    request_id: str | None
    details: dict[str, Any]  # Any: JSON


class AuditPage(Page[AuditEventRead]):
    """Events, the newest first."""

    partial: bool
    """Whether it ended before it was full, because enough events were looked at that do not match: use `next`."""
