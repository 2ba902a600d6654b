"""Finds routes without parameters by one look, where FastAPI (0.165) tries one router after the other, twice."""

from collections.abc import Sequence

from fastapi import FastAPI
from fastapi.routing import APIRoute, RouteContext, iter_route_contexts
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Receive, Scope, Send


class DirectRoutes:
    """Stands before the routes of an application, and leaves to them whatever it does not know."""

    def __init__(self, app: FastAPI) -> None:
        self._router = app.router
        self._next: ASGIApp = app.router.middleware_stack
        self._routes: dict[tuple[str, str], RouteContext] | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request, or a message of the lifespan."""
        # With traces, FastAPI names the span of the request while it looks for the route.
        if scope["type"] != "http" or scope["root_path"] or scope.get("fastapi.telemetry") is not None:
            await self._next(scope, receive, send)
            return
        if self._routes is None:  # once; routes may be added until the first request
            self._routes = _without_parameters(self._router.routes)
        found = self._routes.get((scope["method"], scope["path"]))
        if found is None:
            await self._next(scope, receive, send)
            return
        scope.update(router=self._router, route=found.original_route, endpoint=found.endpoint, path_params={})
        scope.setdefault("fastapi", {})["effective_route_context"] = found
        await found.app(scope, receive, send)


def _without_parameters(routes: Sequence[BaseRoute]) -> dict[tuple[str, str], RouteContext]:
    """Return the routes that one path alone leads to, and no route before them takes."""
    direct: dict[tuple[str, str], RouteContext] = {}
    before: list[RouteContext] = []
    for context in iter_route_contexts(routes):
        if not isinstance(context.original_route, Route):
            break  # a mount may take what follows; guard: test_a_direct_route_is_the_one_that_fastapi_finds
        path = context.path or ""
        for method in context.methods or ():
            taken = any(method in (other.methods or ()) and other.path_regex.match(path) for other in before)
            if isinstance(context.original_route, APIRoute) and not context.param_convertors and not taken:
                direct[method, path] = context
        before.append(context)  # guard: test_a_direct_route_is_the_one_that_fastapi_finds
    return direct
