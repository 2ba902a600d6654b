"""A site of the fault tests (tests/e2e/chaos) with a PgBouncer between its programs and Postgres."""

from collections.abc import Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from random import Random
from typing import Any

from app_db.testing.databases import open_app_role
from tests.docs.checkout import ROOT
from tests.e2e.chaos.faults import WEIGHTS, Fault
from tests.e2e.chaos.site import Site
from tests.e2e.pgbouncer import PgBouncer, drop_worker, with_worker
from tests.e2e.processes import connected


class PooledSite(Site):
    """Its workers and its producer go through the pooler; the test looks at Postgres itself."""

    def __init__(self, folder: Path, **options: Any) -> None:  # Any: those of a Site
        super().__init__(folder, **options)
        self._stack = AsyncExitStack()

    async def _open_database(self) -> str:
        self.postgres.start()
        place = open_app_role(self.postgres.url("postgres"), "chaos", root=ROOT)
        role = await self._stack.enter_async_context(place)
        self.database = await with_worker(role)
        self._stack.push_async_callback(drop_worker, role)
        async with connected(self.database.administrator) as administrator:
            users = f"{role.roles.app}, {self.database.worker.username}"
            await administrator.execute(f"ALTER DEFAULT PRIVILEGES GRANT ALL ON TABLES TO {users}")
        self.folder.chmod(0o755)  # PgBouncer reads its files as another user
        self.pooler = PgBouncer(self.folder / "pgbouncer", self.database.app, self.database.app, self.database.worker)
        self.pooler.start()
        return self.database.administrator

    def _environment(self, url: str) -> dict[str, str]:
        return {**super()._environment(url), **self.database.environment(self.database.worker, self.pooler.port)}

    def start_producer(self) -> None:
        """As at any Site, with the role of the API."""
        through = self.database.environment(self.database.app, self.pooler.port)
        self.producers.append(self._start("producer", **through))

    async def __aexit__(self, *error: object) -> None:
        for process in (*self.workers, *self.producers):
            process.kill()
        self.pooler.stop()
        await self._stack.aclose()
        await super().__aexit__(*error)

    async def stop_accepting(self) -> None:
        """As at any Site; PgBouncer ends for a moment, because its sessions keep the name of the last client."""
        self.pooler.kill()
        await super().stop_accepting()
        self.pooler.start()


async def restart_pooler(site: Site, chance: Random) -> None:
    """kill -9 PgBouncer, and start it again."""
    assert isinstance(site, PooledSite)
    site.pooler.kill()
    site.pooler.start()


POOLED_WEIGHTS: Mapping[Fault, int] = {**WEIGHTS, restart_pooler: 2}
