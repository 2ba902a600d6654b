"""The jobs that deliver events, and look after endpoints."""

from uuid import UUID

from app_db.features.webhooks.models import DisabledBecause
from app_db.jobs.payload import JobPayload


class DeliverWebhook(JobPayload):
    """Send one event to one endpoint. Triggers enqueue it: they have its kind and its field."""

    kind = "webhooks.deliver"
    delivery_id: UUID


class WebhookDisabled(JobPayload):
    """Tell the owner of an endpoint by mail that nothing is sent to it any more."""

    kind = "email.webhook_disabled"
    endpoint_id: UUID
    because: DisabledBecause


class KeepWebhooks(JobPayload):
    """Delete old deliveries, end those without a job, and seal secrets by the key that is active now."""

    kind = "webhooks.keep"
