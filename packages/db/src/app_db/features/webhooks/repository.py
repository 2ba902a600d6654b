"""Endpoints of accounts, for their owners."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import delete, func, select, update

from app_db.features.webhooks.models import DeliveryState, WebhookDelivery, WebhookEndpoint
from app_db.features.webhooks.payloads import DeliverWebhook
from app_db.jobs.outbox import enqueue
from app_db.models import OPEN_STATES, Job
from app_db.paging import Cursor, Slice, slice_after
from app_db.session import Session
from app_db.types import new_id


@dataclass(frozen=True, slots=True)
class WebhookRepository:
    """Keeps endpoints, and finds what was delivered to them."""

    session: Session

    async def add(self, endpoint: WebhookEndpoint) -> None:
        """Insert an endpoint."""
        self.session.add(endpoint)
        await self.session.flush()  # here, so that the caller has the times that Postgres sets

    async def count(self, user_id: UUID) -> int:
        """Return how many endpoints a user has; lock the user first, so that what others committed is counted."""
        statement = select(func.count()).select_from(WebhookEndpoint).where(WebhookEndpoint.user_id == user_id)
        return int((await self.session.scalars(statement)).one())

    async def owned_by(self, user_id: UUID, *, after: Cursor | None, limit: int) -> Slice[WebhookEndpoint]:
        """Return a page of the endpoints of a user, newest first."""
        statement = select(WebhookEndpoint).where(WebhookEndpoint.user_id == user_id)
        return await slice_after(self.session, statement, after=after, limit=limit)

    async def get(self, endpoint_id: UUID) -> WebhookEndpoint | None:
        """Return an endpoint of anybody."""
        return await self.session.get(WebhookEndpoint, endpoint_id)

    async def get_owned(self, endpoint_id: UUID, *, user_id: UUID, lock: bool = False) -> WebhookEndpoint | None:
        """Return an endpoint of this user; None for one of another. With `lock`, changes wait for each other."""
        statement = select(WebhookEndpoint).where(WebhookEndpoint.id == endpoint_id, WebhookEndpoint.user_id == user_id)
        if lock:
            statement = statement.with_for_update(key_share=True).execution_options(populate_existing=True)
        return (await self.session.scalars(statement)).one_or_none()

    async def delete(self, endpoint_id: UUID, *, user_id: UUID) -> bool:
        """Delete an endpoint of this user with its log; return False if they have none with this id."""
        gone = delete(WebhookEndpoint).where(WebhookEndpoint.id == endpoint_id, WebhookEndpoint.user_id == user_id)
        return (await self.session.scalars(gone.returning(WebhookEndpoint.id))).one_or_none() is not None

    async def deliveries_to(
        self, endpoint_id: UUID, *, after: Cursor | None, limit: int, state: DeliveryState | None = None
    ) -> Slice[WebhookDelivery]:
        """Return a page of the log of an endpoint, newest first."""
        statement = select(WebhookDelivery).where(WebhookDelivery.endpoint_id == endpoint_id)
        if state is not None:
            statement = statement.where(WebhookDelivery.state == state)
        return await slice_after(self.session, statement, after=after, limit=limit)

    async def deliveries_of(self, user_id: UUID, *, after: Cursor | None, limit: int) -> Slice[WebhookDelivery]:
        """Return a page of the log of all endpoints of a user, newest first."""
        statement = select(WebhookDelivery).where(
            WebhookDelivery.endpoint_id.in_(select(WebhookEndpoint.id).where(WebhookEndpoint.user_id == user_id))
        )
        return await slice_after(self.session, statement, after=after, limit=limit)

    async def locked_delivery(self, delivery_id: UUID, *, endpoint_id: UUID) -> WebhookDelivery | None:
        """Return a delivery to this endpoint, and lock it until the transaction ends."""
        statement = select(WebhookDelivery).where(
            WebhookDelivery.id == delivery_id, WebhookDelivery.endpoint_id == endpoint_id
        )
        return (await self.session.scalars(statement.with_for_update(key_share=True))).one_or_none()

    async def send(self, endpoint: WebhookEndpoint, event: str, data: dict[str, Any]) -> WebhookDelivery:  # Any: JSON
        """Send an event to one endpoint, in the transaction of the caller, as triggers do."""
        delivery = WebhookDelivery(id=new_id(), endpoint_id=endpoint.id, event_id=new_id(), event=event, data=data)
        delivery.job_id = await enqueue(self.session, DeliverWebhook(delivery_id=delivery.id))
        self.session.add(delivery)
        await self.session.flush()  # here, so that the caller has the times that Postgres sets
        return delivery

    async def send_again(self, delivery: WebhookDelivery) -> None:
        """Send a delivery that has ended once more, with the id that it had."""
        delivery.job_id = await enqueue(self.session, DeliverWebhook(delivery_id=delivery.id))
        delivery.state, delivery.ended_at = DeliveryState.PENDING, None
        await self.session.flush()  # here, so that the caller can show it

    async def sealed_by_others(self, key_id: str, *, limit: int) -> Sequence[WebhookEndpoint]:
        """Return endpoints whose secrets another key has sealed, locked; those that others have locked are skipped."""
        statement = select(WebhookEndpoint).where(WebhookEndpoint.key_id != key_id).order_by(WebhookEndpoint.id)
        return (await self.session.scalars(statement.limit(limit).with_for_update(skip_locked=True))).all()

    async def end_without_job(self) -> int:
        """End the deliveries whose job has ended, or is gone, without saying so; return how many."""
        open_job = select(Job.id).where(Job.id == WebhookDelivery.job_id, Job.state.in_(sorted(OPEN_STATES)))
        stuck = update(WebhookDelivery).where(
            WebhookDelivery.state == DeliveryState.PENDING,
            WebhookDelivery.created_at < func.now() - func.make_interval(0, 0, 0, 0, 1),
            ~open_job.exists(),
        )
        ended = stuck.values(state=DeliveryState.FAILED, ended_at=func.now()).returning(WebhookDelivery.id)
        return len((await self.session.scalars(ended)).all())
