"""The endpoints of a user: made, changed, and shown what was sent to them. Another's is not found."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final
from uuid import UUID

from app_auth.audit import Event, audit
from app_auth.auth import Auth
from app_auth.client import Client
from app_auth.errors import SessionEnded
from app_auth.features.webhooks.errors import (
    DeliveryNotFound,
    DeliveryPending,
    EndpointDisabled,
    EndpointNotFound,
    SecretLost,
    TooManyEndpoints,
)
from app_auth.features.webhooks.secrets import new_secret, seal, text_of, unseal
from app_auth.features.webhooks.targets import Network, checked_url
from app_auth.principal import Principal
from app_db import Session
from app_db.clock import database_time
from app_db.features.webhooks.event_names import TEST, EventName
from app_db.features.webhooks.models import DeliveryState, DisabledBecause, WebhookDelivery, WebhookEndpoint
from app_db.features.webhooks.repository import WebhookRepository
from app_db.paging import Cursor, Slice
from app_db.repositories.user_sessions import UserSessionRepository
from app_db.types import new_id

PER_ACCOUNT: Final = 10
"""How many endpoints an account has at most."""
BOTH_SIGN: Final = timedelta(days=1)
"""How long the secret before signs too, after a rotation."""


@dataclass(frozen=True, slots=True)
class Shown:
    """An endpoint with its new secret, which nobody can show a second time."""

    row: WebhookEndpoint
    secret: str


async def create_endpoint(
    auth: Auth,
    session: Session,
    principal: Principal,
    *,
    url: str,
    events: Iterable[EventName],
    allowed: Iterable[Network],
    client: Client,
) -> Shown:
    """Make an endpoint.

    Raises:
        InvalidEndpointUrl.
        Throttled, TooManyEndpoints: there are `PER_ACCOUNT`; N parallel calls do not make more.
        SessionEnded: the session has just been ended, as by a reset of the password.
    """
    address, user_id = checked_url(url, allowed=allowed), principal.user_id
    await auth.throttle.webhook(user_id)
    # It locks the user: of N parallel calls, each counts the endpoints of those before it, and none outlives a reset.
    if not await UserSessionRepository(session).hold(user_id, principal.session_id):
        raise SessionEnded  # guard: test_no_endpoint_is_made_by_a_session_that_was_just_ended
    endpoints = WebhookRepository(session)
    if await endpoints.count(user_id) >= PER_ACCOUNT:
        raise TooManyEndpoints(most=PER_ACCOUNT)  # guard: test_an_account_has_so_many_endpoints_at_most
    secret, endpoint_id = new_secret(), new_id()
    sealed, key_id = seal(auth.settings.token_keys, [secret], endpoint_id=endpoint_id)
    row = WebhookEndpoint(
        id=endpoint_id, user_id=user_id, url=address, events=_sorted(events), sealed=sealed, key_id=key_id,
    )  # fmt: skip
    await endpoints.add(row)
    _audit(session, principal, Event.WEBHOOK_CREATED, endpoint_id, client)
    return Shown(row, text_of(secret))


async def list_endpoints(
    session: Session, principal: Principal, *, after: Cursor | None, limit: int
) -> Slice[WebhookEndpoint]:
    """Return a page of the user's endpoints, newest first."""
    return await WebhookRepository(session).owned_by(principal.user_id, after=after, limit=limit)


async def get_endpoint(
    session: Session, principal: Principal, endpoint_id: UUID, *, lock: bool = False
) -> WebhookEndpoint:
    """Return an endpoint of the user.

    Raises:
        EndpointNotFound: they have none with this id; somebody else may.
    """
    row = await WebhookRepository(session).get_owned(endpoint_id, user_id=principal.user_id, lock=lock)
    if row is None:
        raise EndpointNotFound  # guard: test_the_endpoint_of_another_is_not_found
    return row


async def change_endpoint(
    session: Session,
    principal: Principal,
    endpoint_id: UUID,
    *,
    url: str | None,
    events: Iterable[EventName] | None,
    enabled: bool | None,
    allowed: Iterable[Network],
    client: Client,
) -> WebhookEndpoint:
    """Change what is not None. One that is enabled starts anew: it fails from its next failure on.

    Raises:
        EndpointNotFound, InvalidEndpointUrl.
    """
    row = await get_endpoint(session, principal, endpoint_id, lock=True)
    if url is not None:
        row.url = checked_url(url, allowed=allowed)
    if events is not None:
        row.events = _sorted(events)
    if enabled:
        row.disabled_at, row.disabled_because, row.failing_since = None, None, None
    elif enabled is False and row.disabled_at is None:
        row.disabled_at, row.disabled_because = await database_time(session), DisabledBecause.OWNER
    _audit(session, principal, Event.WEBHOOK_CHANGED, endpoint_id, client)
    await session.flush()  # here, so that the caller can show it
    return row


async def rotate_secret(
    auth: Auth, session: Session, principal: Principal, endpoint_id: UUID, *, client: Client
) -> Shown:
    """Give an endpoint a new secret. The one before signs too for `BOTH_SIGN`; one before that does not any more.

    Raises:
        EndpointNotFound, Throttled.
    """
    await auth.throttle.webhook(principal.user_id)
    row = await get_endpoint(session, principal, endpoint_id, lock=True)
    secret, ring = new_secret(), auth.settings.token_keys
    before = _opened(auth, row)[:1]  # guard: test_a_second_rotation_ends_the_first_secret
    row.sealed, row.key_id = seal(ring, [secret, *before], endpoint_id=row.id)
    row.rotated_until = await database_time(session) + BOTH_SIGN
    _audit(session, principal, Event.WEBHOOK_ROTATED, endpoint_id, client)
    await session.flush()  # here, so that the caller can show it
    return Shown(row, text_of(secret))


def _opened(auth: Auth, row: WebhookEndpoint) -> Sequence[bytes]:
    try:
        return unseal(auth.settings.token_keys, row.sealed, endpoint_id=row.id, key_id=row.key_id)
    except SecretLost:
        return []  # guard: test_a_secret_that_is_lost_is_replaced


async def delete_endpoint(session: Session, principal: Principal, endpoint_id: UUID, *, client: Client) -> None:
    """Delete an endpoint with its log; nothing more is sent to it.

    Raises:
        EndpointNotFound: the user has none with this id.
    """
    if not await WebhookRepository(session).delete(endpoint_id, user_id=principal.user_id):
        raise EndpointNotFound
    _audit(session, principal, Event.WEBHOOK_DELETED, endpoint_id, client)


async def list_deliveries(
    session: Session,
    principal: Principal,
    endpoint_id: UUID,
    *,
    state: DeliveryState | None,
    after: Cursor | None,
    limit: int,
) -> Slice[WebhookDelivery]:
    """Return a page of the log of an endpoint of the user, newest first.

    Raises:
        EndpointNotFound.
    """
    row = await get_endpoint(session, principal, endpoint_id)
    return await WebhookRepository(session).deliveries_to(row.id, after=after, limit=limit, state=state)


async def send_test(auth: Auth, session: Session, principal: Principal, endpoint_id: UUID) -> WebhookDelivery:
    """Send a test event to an endpoint.

    Raises:
        EndpointNotFound, EndpointDisabled, Throttled.
    """
    row = await _enabled(auth, session, principal, endpoint_id)
    return await WebhookRepository(session).send(row, TEST, {"endpoint_id": str(row.id)})


async def redeliver(
    auth: Auth, session: Session, principal: Principal, endpoint_id: UUID, delivery_id: UUID
) -> WebhookDelivery:
    """Send an event again to its endpoint, with the id that it had.

    Raises:
        EndpointNotFound, DeliveryNotFound, EndpointDisabled, DeliveryPending, Throttled.
    """
    row = await _enabled(auth, session, principal, endpoint_id)
    endpoints = WebhookRepository(session)
    delivery = await endpoints.locked_delivery(delivery_id, endpoint_id=row.id)
    if delivery is None:
        raise DeliveryNotFound  # guard: test_the_endpoint_of_another_is_not_found
    if delivery.state is DeliveryState.PENDING:
        raise DeliveryPending  # guard: test_a_delivery_on_its_way_is_not_sent_twice
    await endpoints.send_again(delivery)
    return delivery


async def _enabled(auth: Auth, session: Session, principal: Principal, endpoint_id: UUID) -> WebhookEndpoint:
    await auth.throttle.webhook(principal.user_id)  # guard: test_what_makes_us_send_is_throttled
    row = await get_endpoint(session, principal, endpoint_id)
    if row.disabled_at is not None:
        raise EndpointDisabled
    return row


def _sorted(events: Iterable[EventName]) -> list[str]:
    return sorted({event.value for event in events})


def _audit(session: Session, principal: Principal, event: Event, endpoint_id: UUID, client: Client) -> None:
    user_id, session_id = principal.user_id, principal.session_id
    audit(session, event, client=client, user_id=user_id, session_id=session_id, webhook=str(endpoint_id))
