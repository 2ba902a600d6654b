"""A route may read on a standby; it says so itself, and gets the primary where there is none."""

import pytest
from fastapi import FastAPI
from sqlalchemy import text

from app_api.dependencies import ReplicaSessionDep
from app_api.settings import ApiSettings
from app_api.testing import open_client
from app_db import Database
from packages.api.tests.conftest import app_of

NAME = text("SELECT current_setting('application_name')")


def add_route(app: FastAPI) -> None:
    @app.get("/figures")
    async def figures(session: ReplicaSessionDep) -> str:
        return str(await session.scalar(NAME))


@pytest.mark.parametrize(("has_replica", "engine"), [(True, "api-replica"), (False, "api-read")])
async def test_a_route_reads_on_a_standby_where_there_is_one(
    api_settings: ApiSettings, database: Database, *, has_replica: bool, engine: str
) -> None:
    replica_url = api_settings.database.url if has_replica else None
    settings = api_settings.database.model_copy(update={"replica_url": replica_url})
    app = app_of(api_settings.model_copy(update={"database": settings}))
    add_route(app)

    async with open_client(app) as client:
        response = await client.get("/figures")

    assert response.json() == engine
