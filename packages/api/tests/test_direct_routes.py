"""Routes that are found by one look are those that FastAPI finds."""

import asyncio
from collections.abc import Awaitable, Callable
from itertools import product

from fastapi import APIRouter, FastAPI, Request
from httpx2 import ASGITransport, AsyncClient
from hypothesis import example, given, settings
from hypothesis import strategies as st
from starlette.applications import Starlette
from structlog.contextvars import bound_contextvars, get_contextvars

from app_api.direct_routes import DirectRoutes

METHODS = ("GET", "POST")
PATHS = ("/a", "/b", "/a/b", "/{x}", "/a/{x}", "/{x}/b", "/{rest:path}")
ASKED = ("/a", "/b", "/a/b", "/", "/c", "/a/c", "/c/b", "/a/", "//a", "/A", "/p/a", "/p/b/b", "/r/a", "/c/a/b")
ROUTERS = st.lists(
    st.tuples(
        st.sampled_from(["", "", "/p"]),
        st.lists(st.tuples(st.sampled_from(METHODS), st.sampled_from(PATHS)), min_size=1, max_size=4),
    ),
    min_size=1,
    max_size=4,
)

type Routers = list[tuple[str, list[tuple[str, str]]]]


def app_of(routers: Routers, *, mounts: bool = False) -> FastAPI:
    """Return an application whose routes answer with their number and what the scope says of them."""
    app = FastAPI(openapi_url=None, redirect_slashes=False)
    if mounts:
        app.mount("/a", Starlette())
    for number, (prefix, routes) in enumerate(routers):
        router = APIRouter()
        for index, (method, path) in enumerate(routes):
            router.add_api_route(path, answering(f"{number}.{index}"), methods=[method])
        app.include_router(router, prefix=prefix)
    return app


def answering(number: str) -> Callable[[Request], Awaitable[list[str]]]:
    async def answer(request: Request) -> list[str]:
        scope = request.scope
        seen = (scope["route"].path, scope["endpoint"] is answer, scope["path_params"], scope["router"] is not None)
        return [number, scope["fastapi"]["effective_route_context"].path_format, *map(str, seen)]

    return answer


async def answers(app: FastAPI, *, root_path: str) -> list[tuple[int, str]]:
    """Return what the application answers to each method at each path."""
    transport = ASGITransport(app=app, root_path=root_path)
    async with AsyncClient(transport=transport, base_url="http://test") as client:
        replies = [await client.request(method, path) for method, path in product([*METHODS, "PUT"], ASKED)]
    return [(reply.status_code, reply.text) for reply in replies]


@settings(deadline=None, max_examples=40)
@given(routers=ROUTERS, mounts=st.booleans(), root_path=st.sampled_from(["", "", "/r"]))
@example(routers=[("", [("GET", "/a/b")])], mounts=True, root_path="")
@example(routers=[("", [("GET", "/{x}"), ("GET", "/a")])], mounts=False, root_path="")
def test_a_direct_route_is_the_one_that_fastapi_finds(routers: Routers, root_path: str, *, mounts: bool) -> None:
    usual, direct = app_of(routers, mounts=mounts), app_of(routers, mounts=mounts)
    direct.router.middleware_stack = DirectRoutes(direct)

    found, expected = (asyncio.run(answers(app, root_path=root_path)) for app in (direct, usual))

    assert found == expected


async def test_a_request_leaves_no_name_to_the_next(client: AsyncClient) -> None:
    with bound_contextvars(request_id="around"):
        await client.get("/probe/live")

        assert get_contextvars() == {"request_id": "around"}


async def test_the_routes_of_the_api_without_parameters_are_direct(app: FastAPI, client: AsyncClient) -> None:
    stack = app.router.middleware_stack
    assert isinstance(stack, DirectRoutes)

    await client.get("/probe/live")

    assert stack._routes is not None
    assert {("GET", "/auth/me"), ("DELETE", "/auth/me"), ("GET", "/probe/live"), ("GET", "/jobs")} <= {*stack._routes}
    assert not any("{" in path for _, path in stack._routes)
