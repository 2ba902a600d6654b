"""The endpoints of a user, and what was sent to them, for an export."""

from uuid import UUID

from app_db import Session
from app_db.features.webhooks.models import WebhookDelivery, WebhookEndpoint
from app_db.features.webhooks.repository import WebhookRepository
from app_db.paging import Cursor, Slice


async def export(session: Session, user_id: UUID, *, after: Cursor | None, limit: int) -> Slice[dict[str, object]]:
    """Return a page: first the endpoints, whose number is bounded, then the deliveries, newest first."""
    webhooks, rows = WebhookRepository(session), []
    if after is None:
        rows = [_endpoint(each) for each in (await webhooks.owned_by(user_id, after=None, limit=limit)).items]
    page = await webhooks.deliveries_of(user_id, after=after, limit=limit)
    return Slice([*rows, *map(_delivery, page.items)], page.next)


def _endpoint(endpoint: WebhookEndpoint) -> dict[str, object]:
    return {
        "endpoint_id": str(endpoint.id),
        "url": endpoint.url,
        "events": endpoint.events,
        "created_at": endpoint.created_at.isoformat(),
        "disabled_because": endpoint.disabled_because,
    }


def _delivery(delivery: WebhookDelivery) -> dict[str, object]:
    return {
        "endpoint_id": str(delivery.endpoint_id),
        "event_id": str(delivery.event_id),
        "event": delivery.event,
        "data": delivery.data,
        "state": delivery.state,
        "attempts": delivery.attempts,
        "created_at": delivery.created_at.isoformat(),
    }
