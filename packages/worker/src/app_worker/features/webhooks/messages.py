"""Events as they are sent: JSON, signed as Standard Webhooks says (standardwebhooks.com, 1.0.0)."""

import json
from dataclasses import dataclass
from datetime import datetime

from app_auth.features.webhooks.secrets import signature, unseal
from app_auth.settings import KeyRing
from app_db.features.webhooks.models import WebhookDelivery, WebhookEndpoint


@dataclass(frozen=True, slots=True)
class Message:
    """An event for an endpoint, at the time of an attempt."""

    delivery: WebhookDelivery
    endpoint: WebhookEndpoint
    now: datetime

    def signed_by(self, ring: KeyRing) -> tuple[dict[str, str], bytes]:
        """Return headers and body; id and body are the same in each attempt.

        Raises:
            SecretLost: the key that has sealed the secret is gone.
        """
        delivery, endpoint = self.delivery, self.endpoint
        keys = unseal(ring, endpoint.sealed, endpoint_id=endpoint.id, key_id=endpoint.key_id)
        if endpoint.rotated_until is None or self.now >= endpoint.rotated_until:
            keys = keys[:1]  # guard: test_after_a_day_only_the_new_secret_signs
        content = {"type": delivery.event, "timestamp": delivery.created_at.isoformat(), "data": delivery.data}
        body = json.dumps(content, separators=(",", ":")).encode()
        message_id, timestamp = str(delivery.event_id), int(self.now.timestamp())
        headers = {
            "Content-Type": "application/json",
            "Accept-Encoding": "identity",  # compressed, a small answer could be a large one
            "User-Agent": "groundwork",
            "webhook-id": message_id,
            "webhook-timestamp": str(timestamp),
            "webhook-signature": signature(keys, message_id=message_id, timestamp=timestamp, body=body),
        }
        return headers, body
