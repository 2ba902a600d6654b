"""What came of deliveries: noted by the worker that sent them."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import TextClause, func, select, text, update

from app_db.features.webhooks.models import (
    MOST_ATTEMPTS_KEPT,
    DeliveryState,
    DisabledBecause,
    WebhookDelivery,
    WebhookEndpoint,
)
from app_db.repositories.expiry import BATCH
from app_db.session import Session

_DELETE_OLD: TextClause = text("""
    WITH due AS (
        SELECT id FROM webhook_deliveries
        WHERE created_at <= now() - CAST(:keep AS interval) AND state <> 'pending'
        ORDER BY created_at LIMIT :limit FOR UPDATE SKIP LOCKED
    ), gone AS (
        DELETE FROM webhook_deliveries WHERE id = ANY (ARRAY(SELECT id FROM due)) RETURNING id
    )
    SELECT count(*) FROM gone
""")


@dataclass(frozen=True, slots=True)
class WebhookOutcomes:
    """Notes attempts, and disables endpoints that do not answer."""

    session: Session

    async def find(self, delivery_id: UUID) -> tuple[WebhookDelivery, WebhookEndpoint] | None:
        """Return a delivery with its endpoint; None if one of them is gone."""
        statement = select(WebhookDelivery, WebhookEndpoint).join(
            WebhookEndpoint, WebhookEndpoint.id == WebhookDelivery.endpoint_id
        )
        row = (await self.session.execute(statement.where(WebhookDelivery.id == delivery_id))).one_or_none()
        return None if row is None else (row[0], row[1])

    async def note(
        self, delivery: WebhookDelivery, attempt: Mapping[str, Any] | None, state: DeliveryState
    ) -> None:  # Any: JSON
        """Note an attempt, if there was one, and the state that the delivery has from now on."""
        attempts = [*delivery.attempts, *([] if attempt is None else [{**attempt}])][-MOST_ATTEMPTS_KEPT:]
        ended_at = None if state is DeliveryState.PENDING else func.now()
        noted = update(WebhookDelivery).where(WebhookDelivery.id == delivery.id)
        await self.session.execute(noted.values(attempts=attempts, state=state, ended_at=ended_at))

    async def succeeded(self, endpoint_id: UUID) -> None:
        """Note that an endpoint answers."""
        failing = WebhookEndpoint.id == endpoint_id, WebhookEndpoint.failing_since.is_not(None)
        await self.session.execute(update(WebhookEndpoint).where(*failing).values(failing_since=None))

    async def failed(self, endpoint_id: UUID) -> None:
        """Note that an endpoint fails, unless it did already."""
        well = WebhookEndpoint.id == endpoint_id, WebhookEndpoint.failing_since.is_(None)
        await self.session.execute(update(WebhookEndpoint).where(*well).values(failing_since=func.now()))

    async def disable(
        self, endpoint_id: UUID, because: DisabledBecause, *, failing_for: timedelta = timedelta(0)
    ) -> UUID | None:
        """Disable an endpoint that has failed for so long; return its owner, or None if it is disabled or younger."""
        statement = update(WebhookEndpoint).where(
            WebhookEndpoint.id == endpoint_id,
            WebhookEndpoint.disabled_at.is_(
                None
            ),  # guard: test_of_two_deliveries_that_fail_at_once_one_disables_the_endpoint
            WebhookEndpoint.failing_since <= func.now() - failing_for,
        )
        disabled = statement.values(disabled_at=func.now(), disabled_because=because)
        return (await self.session.scalars(disabled.returning(WebhookEndpoint.user_id))).one_or_none()

    async def delete_old(self, keep: timedelta, *, limit: int = BATCH) -> int:
        """Delete up to `limit` deliveries that have ended and are older; return how many."""
        return int((await self.session.scalars(_DELETE_OLD, {"keep": keep, "limit": limit})).one())
