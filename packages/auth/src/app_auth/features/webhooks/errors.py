"""The errors of webhooks."""

from typing import Any

from app_db.errors import Conflict, Invalid, NotFound


class EndpointNotFound(NotFound):
    """You have no endpoint with this id."""

    code = "endpoint_not_found"


class DeliveryNotFound(NotFound):
    """This endpoint has no delivery with this id; old ones are deleted."""

    code = "delivery_not_found"


class InvalidEndpointUrl(Invalid):
    """An endpoint is https:// with a public host, without a password or a fragment, of up to 2,000 characters."""

    code = "invalid_endpoint_url"


class TooManyEndpoints(Conflict):
    """You have as many endpoints as an account may have: delete one first."""

    code = "too_many_endpoints"

    def __init__(self, *, most: int) -> None:
        super().__init__()
        self.most = most

    @property
    def members(self) -> dict[str, Any]:  # Any: JSON
        """How many endpoints an account may have."""
        return {"most": self.most}


class EndpointDisabled(Conflict):
    """Nothing is sent to this endpoint: enable it first."""

    code = "endpoint_disabled"


class DeliveryPending(Conflict):
    """This delivery is on its way already."""

    code = "delivery_pending"


class SecretLost(Conflict):
    """The secret of this endpoint cannot be read any more: rotate it."""

    code = "secret_lost"
