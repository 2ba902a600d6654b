"""The one log line of each request, and the fields that tie other lines to it."""

from collections.abc import Iterator
from typing import Any

import pytest
import structlog
from fastapi import FastAPI
from httpx2 import AsyncClient
from structlog.testing import capture_logs

from app_api.dependencies import PrincipalDep
from app_api.settings import ApiSettings
from app_api.testing import SignedIn, open_client
from packages.api.tests.conftest import app_of

type Lines = list[dict[str, Any]]

log = structlog.get_logger(__name__)


@pytest.fixture
def lines() -> Iterator[Lines]:
    """The log events, with the ids that are bound."""
    with capture_logs(processors=[structlog.contextvars.merge_contextvars]) as logs:
        yield logs  # type: ignore[misc]  # its type promises less than a dict


def access(lines: Lines) -> dict[str, Any]:
    (line,) = [line for line in lines if line["event"] == "request_finished"]
    return line


async def test_a_request_leaves_one_line(client: AsyncClient, signed_in: SignedIn, lines: Lines) -> None:
    await client.get("/jobs?limit=7", headers={**signed_in.headers, "X-Request-ID": "r1"})

    line = access(lines)
    assert line.pop("milliseconds") > 0
    assert line == {
        "event": "request_finished",
        "log_level": "info",
        "request_id": "r1",
        "user_id": str(signed_in.account.id),
        "method": "GET",
        "route": "/jobs",
        "status": 200,
        "client": "127.0.0.1",
        "error": None,
    }


async def test_the_line_of_a_refusal_names_the_error(client: AsyncClient, lines: Lines) -> None:
    await client.get("/auth/me")

    assert (access(lines)["status"], access(lines)["error"], access(lines)["user_id"]) == (401, "unauthenticated", None)


async def test_what_nothing_is_at_is_not_quoted_in_the_log(client: AsyncClient, lines: Lines) -> None:
    await client.get("/rt_a-token-in-the-wrong-place")

    assert access(lines)["route"] is None


async def test_a_probe_leaves_no_line_unless_asked_to(client: AsyncClient, lines: Lines) -> None:
    await client.get("/probe/ready")

    assert lines == []  # at the level INFO


async def test_every_line_of_a_request_names_its_user(
    client: AsyncClient, app: FastAPI, signed_in: SignedIn, lines: Lines
) -> None:
    @app.get("/pets")
    async def pets(principal: PrincipalDep) -> None:
        log.info("pets_listed")

    await client.get("/pets", headers=signed_in.headers)

    (line,) = [line for line in lines if line["event"] == "pets_listed"]
    assert line["user_id"] == str(signed_in.account.id)


async def test_the_user_of_a_request_is_not_that_of_the_next(
    client: AsyncClient, signed_in: SignedIn, lines: Lines
) -> None:
    await client.get("/auth/me", headers=signed_in.headers)
    await client.get("/link")

    assert [line["user_id"] for line in lines] == [str(signed_in.account.id), None]


async def test_behind_a_proxy_the_line_names_the_client(api_settings: ApiSettings, lines: Lines) -> None:
    http = type(api_settings.http).model_validate({"trusted_proxies": ["127.0.0.0/8"]})
    app = app_of(api_settings.model_copy(update={"http": http}))

    async with open_client(app) as client:
        await client.get("/auth/me", headers={"X-Forwarded-For": "192.0.2.7"})

    assert access(lines)["client"] == "192.0.2.7"
