"""Webhooks of the bearer: where events of the account are sent, and what came of it. No key opens these routes."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends

from app_api.dependencies import AuthDep, ClientDep, CursorDep, LimitDep, PrincipalDep, SessionDep
from app_api.features.webhooks.schemas import (
    DeliveryPage,
    DeliveryRead,
    EndpointCreate,
    EndpointPage,
    EndpointRead,
    EndpointShown,
    EndpointUpdate,
)
from app_api.idempotency import PROBLEMS as REPETITION
from app_api.idempotency import IdempotentDep
from app_api.problems import problem_responses
from app_api.resources import resource
from app_auth.errors import InvalidToken, ReauthenticationRequired, Throttled
from app_auth.features.webhooks import service
from app_auth.features.webhooks.errors import (
    DeliveryNotFound,
    DeliveryPending,
    EndpointDisabled,
    EndpointNotFound,
    InvalidEndpointUrl,
    TooManyEndpoints,
)
from app_auth.machines import KeyNotAccepted
from app_auth.permissions import require_fresh
from app_auth.principal import Principal
from app_db.errors import Unauthenticated
from app_db.features.webhooks.models import DeliveryState
from app_db.features.webhooks.settings import WebhookSettings
from app_db.outage import DatabaseUnavailable

router = APIRouter(
    prefix="/webhooks",
    tags=["webhooks"],
    responses=problem_responses(Unauthenticated, InvalidToken, KeyNotAccepted, DatabaseUnavailable),
)


async def get_fresh(principal: PrincipalDep, auth: AuthDep, session: SessionDep) -> Principal:
    """Return who has signed in lately: before an answer with a secret is given again, too."""
    await require_fresh(auth, session, principal)  # guard: test_what_decides_who_gets_events_needs_a_fresh_sign_in
    return principal


FreshDep = Annotated[Principal, Depends(get_fresh)]
SettingsDep = Annotated[WebhookSettings, Depends(resource(WebhookSettings))]
OF_FRESH = (KeyNotAccepted, ReauthenticationRequired)


@router.post(
    "",
    status_code=201,
    responses=problem_responses(*OF_FRESH, Throttled, TooManyEndpoints, InvalidEndpointUrl, *REPETITION),
)
async def create_endpoint(
    body: EndpointCreate, principal: FreshDep, *, auth: AuthDep, session: SessionDep, client: ClientDep,
    settings: SettingsDep, _: IdempotentDep,
) -> EndpointShown:  # fmt: skip
    """Send events of the bearer to an address, and show the secret that signs them, this once."""
    allowed = settings.allowed_networks
    shown = await service.create_endpoint(
        auth, session, principal, url=body.url, events=body.events, allowed=allowed, client=client
    )
    return EndpointShown.of_new(shown)


@router.get("")
async def list_endpoints(
    principal: PrincipalDep, session: SessionDep, *, after: CursorDep, limit: LimitDep = 20
) -> EndpointPage:
    """List the bearer's endpoints, newest first."""
    page = await service.list_endpoints(session, principal, after=after, limit=limit)
    return EndpointPage.model_validate(page)


@router.get("/{endpoint_id}", responses=problem_responses(EndpointNotFound))
async def read_endpoint(endpoint_id: UUID, principal: PrincipalDep, session: SessionDep) -> EndpointRead:
    """Show an endpoint of the bearer."""
    return EndpointRead.model_validate(await service.get_endpoint(session, principal, endpoint_id))


@router.patch("/{endpoint_id}", responses=problem_responses(*OF_FRESH, EndpointNotFound, InvalidEndpointUrl))
async def change_endpoint(
    endpoint_id: UUID, body: EndpointUpdate, principal: FreshDep, *, session: SessionDep, client: ClientDep,
    settings: SettingsDep,
) -> EndpointRead:  # fmt: skip
    """Change an endpoint of the bearer, disable it or enable it again."""
    row = await service.change_endpoint(
        session, principal, endpoint_id, url=body.url, events=body.events, enabled=body.enabled,
        allowed=settings.allowed_networks, client=client,
    )  # fmt: skip
    return EndpointRead.model_validate(row)


@router.delete("/{endpoint_id}", status_code=204, responses=problem_responses(EndpointNotFound))
async def delete_endpoint(endpoint_id: UUID, principal: PrincipalDep, session: SessionDep, client: ClientDep) -> None:
    """Delete an endpoint of the bearer with its log."""
    await service.delete_endpoint(session, principal, endpoint_id, client=client)


@router.post("/{endpoint_id}/rotate", responses=problem_responses(*OF_FRESH, Throttled, EndpointNotFound, *REPETITION))
async def rotate_secret(
    endpoint_id: UUID, principal: FreshDep, *, auth: AuthDep, session: SessionDep, client: ClientDep, _: IdempotentDep
) -> EndpointShown:
    """Give an endpoint a new secret, shown this once; for a day events are signed with the one before as well."""
    return EndpointShown.of_new(await service.rotate_secret(auth, session, principal, endpoint_id, client=client))


@router.post(
    "/{endpoint_id}/test",
    status_code=202,
    responses=problem_responses(Throttled, EndpointNotFound, EndpointDisabled, *REPETITION),
)
async def send_test(
    endpoint_id: UUID, principal: PrincipalDep, *, auth: AuthDep, session: SessionDep, _: IdempotentDep
) -> DeliveryRead:
    """Send the event `webhook.test` to an endpoint of the bearer."""
    return DeliveryRead.model_validate(await service.send_test(auth, session, principal, endpoint_id))


@router.get("/{endpoint_id}/deliveries", responses=problem_responses(EndpointNotFound))
async def list_deliveries(
    endpoint_id: UUID, principal: PrincipalDep, session: SessionDep, *, after: CursorDep, limit: LimitDep = 20,
    state: DeliveryState | None = None,
) -> DeliveryPage:  # fmt: skip
    """List what was sent to an endpoint of the bearer, newest first, with the answers."""
    page = await service.list_deliveries(session, principal, endpoint_id, state=state, after=after, limit=limit)
    return DeliveryPage.model_validate(page)


@router.post(
    "/{endpoint_id}/deliveries/{delivery_id}/redeliver",
    status_code=202,
    responses=problem_responses(
        Throttled, EndpointNotFound, DeliveryNotFound, EndpointDisabled, DeliveryPending, *REPETITION
    ),
)
async def redeliver(
    endpoint_id: UUID, delivery_id: UUID, principal: PrincipalDep, *, auth: AuthDep, session: SessionDep,
    _: IdempotentDep,
) -> DeliveryRead:  # fmt: skip
    """Send an event again that was delivered or given up; it keeps its `webhook-id`."""
    return DeliveryRead.model_validate(await service.redeliver(auth, session, principal, endpoint_id, delivery_id))
