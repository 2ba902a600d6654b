"""Tools for tests of the API: a client of the real application, and a user who is signed in."""

import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, cast

import uvicorn
from fastapi import FastAPI
from httpx2 import ASGITransport, AsyncClient, Response
from starlette.types import Receive, Scope, Send

from app_api.lifespan import State
from app_api.serving import server_config
from app_api.settings import HttpSettings
from app_auth.sessions import IssuedTokens
from app_auth.testing import Account
from app_runtime.testing.processes import wait_until


@dataclass(frozen=True, slots=True)
class SignedIn:
    """A registered user with the tokens of a sign-in; `headers` makes a request theirs."""

    account: Account
    tokens: IssuedTokens

    @property
    def headers(self) -> dict[str, str]:
        """The Authorization header."""
        return {"Authorization": f"Bearer {self.tokens.access_token}"}


@asynccontextmanager
async def run_lifespan(app: FastAPI) -> AsyncIterator[State]:
    """Start and stop the application as a server would, and yield the state of its lifespan."""
    async with app.router.lifespan_context(app) as state:
        yield cast("State", state)


def client_of(app: FastAPI, state: State) -> AsyncClient:
    """Return a client of an application that is running."""

    async def with_state(scope: Scope, receive: Receive, send: Send) -> None:
        # A server passes on the lifespan's state; httpx does not.
        await app({**scope, "state": dict(state)}, receive, send)

    return AsyncClient(transport=ASGITransport(with_state), base_url="http://localhost")


@asynccontextmanager
async def open_client(app: FastAPI) -> AsyncIterator[AsyncClient]:
    """Run any application for as long as its client is open.

    Example:
        async with open_client(create_app(settings)) as client:
            response = await client.get("/probe/ready")
            assert response.status_code == 200
    """
    async with run_lifespan(app) as state, client_of(app, state) as client:
        yield client


@contextmanager
def served(app: FastAPI, *, http: HttpSettings | None = None) -> Iterator[int]:
    """Serve an application in a thread as its process would, and yield the port, for tests that need a socket."""
    server = uvicorn.Server(server_config(app, http or HttpSettings(port=0)))
    thread = threading.Thread(target=server.run)
    thread.start()
    assert wait_until(lambda: server.started, 30)
    yield server.servers[0].sockets[0].getsockname()[1]
    server.should_exit = True
    thread.join()


def assert_problem(response: Response, status: int, code: str) -> dict[str, Any]:
    """Fail unless the response is a complete problem document (RFC 9457); returns it, to look at its other members.

    Example:
        problem = assert_problem(await client.get("/auth/me"), 401, "not_authenticated")
        assert problem["title"] == "Unauthorized"
    """
    assert response.status_code == status, f"{response.status_code}: {response.text}"
    assert response.headers["Content-Type"] == "application/problem+json"
    problem: dict[str, Any] = response.json()
    assert problem["type"] == "about:blank"
    assert problem["title"] == HTTPStatus(status).phrase
    assert problem["status"] == status
    assert problem["code"] == code
    assert problem["detail"]
    assert problem["instance"] == response.request.url.raw_path.decode().partition("?")[0]
    assert problem["request_id"] == response.headers["X-Request-ID"]
    if status == HTTPStatus.UNAUTHORIZED:
        assert response.headers["WWW-Authenticate"].startswith("Bearer")
    if status == HTTPStatus.SERVICE_UNAVAILABLE:
        assert int(response.headers["Retry-After"]) >= 1
    return problem
