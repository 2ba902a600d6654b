"""The lifespan of an API process: what it opens at its start and closes at its end."""

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from functools import partial
from threading import Event
from typing import TypedDict

import structlog
from fastapi import FastAPI
from pydantic import AnyHttpUrl

from app_api.health import ReadinessProbe, open_readiness_probe
from app_api.metrics import AuthCollector, Metrics
from app_api.proxies import Network
from app_api.settings import ApiSettings
from app_api.watching import watching
from app_auth.auth import Auth, open_auth
from app_auth.settings import active
from app_auth.throttle import open_throttle
from app_db import Database, open_database
from app_db.jobs.catalog import CATALOG
from app_db.pooler import Vet
from app_db.roles import refuse_powers
from app_db.telemetry.collectors import describe_database
from app_db.telemetry.trace_setup import Tracing
from app_runtime.configuration import Environment
from app_runtime.resources import Opened, Resource, open_resources
from app_runtime.telemetry.endpoint import Health
from app_runtime.telemetry.exporting import exporting
from app_runtime.telemetry.process import describe_process

log = structlog.get_logger(__name__)

KINDS = tuple(payload.kind for payload in CATALOG)
PACKAGES = ("app-runtime", "app-db", "app-auth", "app-api")
BLOCKED = 3.0
"""Seconds that the event loop may be blocked before the port for metrics reports the process as unhealthy."""


type OpenDatabase = Callable[..., AbstractAsyncContextManager[Database]]
"""As `open_database`."""


class State(TypedDict):
    """`request.state` of every request; RequestContext adds `request_id`."""

    database: Database
    auth: Auth
    readiness_probe: ReadinessProbe
    trusted_proxies: tuple[Network, ...]
    reached_at: AnyHttpUrl | None
    stopping: Event
    """Set once the process is to stop."""
    resources: Opened


def lifespan_of(
    settings: ApiSettings,
    stopping: Event,
    metrics: Metrics,
    traces: Tracing,
    *,
    resources: Mapping[type, Resource],
    opening: OpenDatabase = open_database,
) -> Callable[[FastAPI], AbstractAsyncContextManager[State]]:
    """Return the lifespan of an application with these settings."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[State]:
        async with (
            exporting(settings.metrics, metrics.registry, partial(_health, metrics, stopping)),
            metrics.loop.watched(),
            opening(settings.database, name="api", vet=_vet(settings.env), keys=settings.jobs.payload_keys) as database,
            traces.tracing(database) if traces else nullcontext(),
            open_readiness_probe(settings.redis, database, stopping) as readiness_probe,
            watching(readiness_probe, metrics) if settings.metrics.enabled else nullcontext(),
            open_throttle(
                settings.throttle, secret=active(settings.auth.peppers).key_bytes, valkey=settings.redis
            ) as throttle,
            open_resources(resources, settings) as opened,
        ):
            with open_auth(settings.auth, throttle=throttle) as auth:
                _describe(metrics, database, auth)
                log.info("api_started", env=settings.env.value)
                yield {
                    "database": database,
                    "auth": auth,
                    "readiness_probe": readiness_probe,
                    "trusted_proxies": settings.http.trusted_proxies,
                    "reached_at": settings.reached_at,
                    "stopping": stopping,
                    "resources": opened,
                }
        log.info("api_stopped")

    return lifespan


def _vet(env: Environment) -> Vet | None:
    if env is Environment.PRODUCTION:  # main.py checks too, but the database may be down then
        return refuse_powers  # guard: test_production_serves_nothing_with_a_role_that_may_do_anything
    return None


def _describe(metrics: Metrics, database: Database, auth: Auth) -> None:
    describe_process(metrics.registry, packages=PACKAGES)
    describe_database(metrics.registry, database, kinds=KINDS)
    metrics.registry.register(AuthCollector(auth))


def _health(metrics: Metrics, stopping: Event) -> Health:
    lag = metrics.loop.seconds
    signs = {"requests": metrics.in_flight, "stopping": stopping.is_set(), "loop_lag_seconds": round(lag, 3)}
    return Health(signs, "The event loop is blocked." if lag > BLOCKED else None)
