"""Whether this process lives, and whether it should get requests."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from threading import Event
from typing import Annotated, Literal

import structlog
from fastapi import APIRouter, Depends, Request
from pydantic import BaseModel
from redis.asyncio import Redis
from redis.exceptions import RedisError

from app_api.problems import ProblemResponse, app_error_response, problem_responses
from app_api.settings import RedisSettings
from app_auth.valkey import LeavingPool
from app_db import Database
from app_db.errors import Unavailable
from app_db.outage import DatabaseUnavailable
from app_db.pooler import WrongPooling
from app_db.repositories.schema import SchemaRepository
from app_runtime.configuration import Misconfigured
from app_runtime.valkey import DEFAULT_PREFIX

log = structlog.get_logger(__name__)

router = APIRouter(prefix="/probe", tags=["probe"])

CHECK_SECONDS = 1.0
KEEP_SECONDS = 1.0
PROBE_MILLISECONDS = 60_000

type Check = Literal["ok", "failed", "refused", "behind", "stopping", "stale"]
"""`refused`: the database answers, but its role may do more than an application in production should, or a pooler is
in the way that nobody named.

`stale`, of `indexes`: the server's collation has changed since some of them were made, and they may miss rows.
"""


class Readiness(BaseModel):
    """`degraded` means that requests are served, but background jobs start late, or that indexes may miss rows."""

    status: Literal["ready", "degraded", "unready"]
    checks: dict[str, Check]


class NotReady(Unavailable):
    """No requests should be sent here now."""

    code = "unready"


class ReadinessProbe:
    """Checks Postgres and Valkey, each within `CHECK_SECONDS` and at most once in `KEEP_SECONDS` for all callers."""

    def __init__(self, database: Database, valkey: Redis, stopping: Event, *, prefix: str = DEFAULT_PREFIX) -> None:
        self._database = database
        self._valkey = valkey
        self._stopping = stopping
        self._key = f"{prefix}probe"
        self._asking = asyncio.Lock()
        self._stale: list[str] = []
        self._last: Readiness | None = None
        self._asked_at = 0.0

    async def check(self) -> Readiness:
        """Return the health; a process that is about to stop is not ready."""
        if self._stopping.is_set():
            return Readiness(status="unready", checks={"process": "stopping"})
        return await self.known()

    async def known(self) -> Readiness:
        """Return the results of Postgres and Valkey, at most `KEEP_SECONDS` old."""
        async with self._asking:  # guard: test_probes_at_once_ask_once
            if self._last is None or time.monotonic() - self._asked_at > KEEP_SECONDS:
                self._last = await self._ask()
                self._asked_at = time.monotonic()
            return self._last

    async def _ask(self) -> Readiness:
        """Ask both at once. Only the database decides whether requests can be served."""
        schema, valkey = await asyncio.gather(self._check_schema(), self._check_valkey())
        checks: dict[str, Check] = {"database": schema, "valkey": valkey}
        if self._stale:
            checks["indexes"] = "stale"
        if schema != "ok":
            return Readiness(status="unready", checks=checks)
        return Readiness(status="ready" if set(checks.values()) == {"ok"} else "degraded", checks=checks)

    async def _check_schema(self) -> Check:
        try:
            async with asyncio.timeout(CHECK_SECONDS), self._database.unit_of_work(read_only=True) as session:
                schema = await SchemaRepository(session).state()
                self._note_stale(schema.stale_indexes)
                return "ok" if schema.is_ready else "behind"
        except Misconfigured as error:
            log.error("database_role_refused", reason=str(error))  # noqa: TRY400  # not an error of the code
            return "refused"
        except DatabaseUnavailable as error:
            if not isinstance(error.__cause__, WrongPooling):
                return "failed"
            log.error("database_pooling_refused", reason=error.reason())  # noqa: TRY400  # as above
            return "refused"  # guard: test_a_role_that_lacks_what_a_pooler_loses_makes_the_api_unready
        except Exception:  # any error means failed, a missing table schema_history too
            return "failed"

    def _note_stale(self, indexes: list[str]) -> None:
        if indexes and indexes != self._stale:
            log.warning("collation_changed", indexes=indexes)  # guard: test_indexes_that_may_miss_rows_are_named
        self._stale = indexes

    async def _check_valkey(self) -> Check:
        try:
            async with asyncio.timeout(CHECK_SECONDS):
                # Write, as enqueueing and counting do: a server that is read-only or full still replies to a PING.
                await self._valkey.set(
                    self._key, "", px=PROBE_MILLISECONDS
                )  # guard: test_a_valkey_that_only_reads_is_degraded
        except (RedisError, OSError, TimeoutError):
            return "failed"
        return "ok"


@asynccontextmanager
async def open_readiness_probe(
    settings: RedisSettings, database: Database, stopping: Event
) -> AsyncIterator[ReadinessProbe]:
    """Open the connection pool for the checks of Valkey."""
    timeout = settings.timeout.total_seconds()
    pool = LeavingPool.of(settings, socket_timeout=timeout, socket_connect_timeout=timeout)
    async with Redis.from_pool(pool) as valkey:
        yield ReadinessProbe(database, valkey, stopping, prefix=settings.prefix)


async def get_readiness_probe(request: Request) -> ReadinessProbe:
    """Return the probe of this process."""
    probe: ReadinessProbe = request.state.readiness_probe
    return probe


ProbeDep = Annotated[ReadinessProbe, Depends(get_readiness_probe)]


@router.get("/live")
async def live_probe() -> str:
    """Whether the process answers at all. Touches nothing else."""
    return "ok"


@router.get("/health", responses=problem_responses(DatabaseUnavailable))
async def health_probe(probe: ProbeDep) -> str:
    """Whether the process and its database answer."""
    readiness = await probe.known()
    if readiness.checks["database"] in ("failed", "refused"):
        raise DatabaseUnavailable  # guard: test_health_is_an_outage_without_the_database
    return "app and database ok"


@router.get("/ready", response_model=Readiness, responses=problem_responses(NotReady))
async def ready_probe(request: Request, probe: ProbeDep) -> Readiness | ProblemResponse:
    """Whether requests should be sent here: the schema that this code needs is there."""
    readiness = await probe.check()
    if readiness.status == "unready":
        return app_error_response(request.scope, NotReady(), checks=readiness.checks)
    return readiness
