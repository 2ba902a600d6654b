"""Endpoints for tests: rows alone, with a secret that cannot be opened."""

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from app_db import Database
from app_db.features.webhooks.event_names import EventName
from app_db.features.webhooks.models import WebhookEndpoint
from app_db.models import User
from app_db.types import new_id

type MakeEndpoint = Callable[..., Awaitable[WebhookEndpoint]]


@pytest.fixture
def make_endpoint(database: Database) -> MakeEndpoint:
    """Return a factory of committed endpoints that get all events."""

    async def make(*, owner: User, **columns: Any) -> WebhookEndpoint:  # Any: columns of WebhookEndpoint
        values = {
            "id": new_id(),
            "url": "https://hooks.example.com/",
            "events": [*EventName],
            "sealed": b"",
            "key_id": "test",
        } | columns
        endpoint = WebhookEndpoint(user_id=owner.id, **values)
        async with database.sessions.begin() as session:
            session.add(endpoint)
        return endpoint

    return make
