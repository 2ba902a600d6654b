"""What an API process opens at its start and closes at its end."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from threading import Event
from typing import TypedDict

import structlog
from fastapi import FastAPI

from app_api.health import ReadinessProbe, open_readiness_probe
from app_api.proxies import Network
from app_api.settings import ApiSettings
from app_auth.auth import Auth, open_auth
from app_auth.settings import active
from app_auth.throttle import open_throttle
from app_db import Database, open_database

log = structlog.get_logger(__name__)


class State(TypedDict):
    """`request.state` of every request; RequestContext adds `request_id`."""

    database: Database
    auth: Auth
    readiness_probe: ReadinessProbe
    trusted_proxies: tuple[Network, ...]


def lifespan_of(settings: ApiSettings, stopping: Event) -> Callable[[FastAPI], AbstractAsyncContextManager[State]]:
    """Return the lifespan of an application with these settings."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[State]:
        async with (
            open_database(settings.database, name="api") as database,
            open_readiness_probe(settings.redis, database, stopping) as readiness_probe,
            open_throttle(
                settings.throttle,
                secret=active(settings.auth.peppers).key_bytes,
                url=settings.redis.url,
                patience=settings.redis.timeout,
            ) as throttle,
        ):
            with open_auth(settings.auth, throttle=throttle) as auth:
                log.info("api_started", env=settings.env.value)
                yield {
                    "database": database,
                    "auth": auth,
                    "readiness_probe": readiness_probe,
                    "trusted_proxies": settings.http.trusted_proxies,
                }
        log.info("api_stopped")

    return lifespan
