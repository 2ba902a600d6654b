"""Which routes a key for machines opens: those that ask for a scope, and no others (ADR-0067)."""

import re
from collections.abc import Iterable, Iterator
from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, FastAPI, Request
from fastapi.dependencies.models import Dependant
from fastapi.routing import iter_route_contexts
from starlette.routing import BaseRoute
from structlog.contextvars import bind_contextvars

from app_api.dependencies import CALLER, authenticate, bearer
from app_api.proxies import read_client
from app_auth.errors import InvalidToken
from app_auth.machines import PREFIX, InsufficientScope, MachineKeys
from app_auth.principal import Caller
from app_db.errors import Unauthenticated

_SCOPE: Final = re.compile(r"[a-z][a-z0-9_-]*:[a-z]+")
SCHEME: Final = "MachineKey"
"""The name of the security scheme in the description of the API."""


class Scoped:
    """A dependency on who asks: a person who is signed in, or a key with this scope.

    A route without it accepts no key. Without a scope, it accepts any key.

    Example:
        ReaderDep = Annotated[Caller, Depends(Scoped("pets:read"))]

        @router.get("/pets")
        async def list_pets(caller: ReaderDep, session: SessionDep) -> list[str]:
            return [pet.name for pet in await PetRepository(session).of(caller.user_id)]
    """

    def __init__(self, scope: str | None = None) -> None:
        if scope is not None and not _SCOPE.fullmatch(scope):
            raise ValueError(f'{scope}: a scope looks like "pets:read"')
        self.scope = scope

    async def __call__(self, request: Request, token: Annotated[str | None, Depends(bearer)]) -> Caller:
        """Return who asks, by one query.

        Raises:
            InsufficientScope: it is a key without the scope.
            InvalidToken, Throttled.
        """
        if token is None:
            raise Unauthenticated  # guard: test_a_request_without_a_bearer_token_is_not_authenticated
        if not token.startswith(PREFIX):
            return await authenticate(request, token)
        keys: MachineKeys | None = request.state.resources.get(MachineKeys)
        if keys is None:
            raise InvalidToken
        client = read_client(request, trusted=request.state.trusted_proxies)
        machine = await keys.recognise(request.state.auth, request.state.database, token=token, client=client)
        bind_contextvars(user_id=str(machine.user_id), key_id=str(machine.key_id))
        if self.scope is not None and self.scope not in machine.scopes:
            raise InsufficientScope(self.scope)  # guard: test_a_key_without_the_scope_is_refused
        request.scope[CALLER] = machine
        return machine


CallerDep = Annotated[Caller, Depends(Scoped())]
"""Who asks: a person who is signed in, or a machine with any key.

Example:
    @router.get("/whoami")
    async def read_name(caller: CallerDep) -> str:
        return caller.email
"""


def scopes_of(routers: Iterable[APIRouter]) -> tuple[str, ...]:
    """Return all scopes that there are: those that routes ask for, and no others."""
    found = [scope for router in routers for _, _, scope in scoped_routes(router.routes) if scope is not None]
    return (*sorted({*found}),)


def scoped_routes(routes: Iterable[BaseRoute]) -> Iterator[tuple[str, str, str | None]]:
    """Yield method, path and scope of each route that accepts keys; None for any key."""
    for context in iter_route_contexts([*routes]):
        for asked in _asked_by(getattr(context, "dependant", None)):
            for method in context.methods or ():
                yield method, context.path or "", asked.scope


def _asked_by(dependant: Dependant | None) -> Iterator[Scoped]:
    if dependant is None:  # a route of Starlette's
        return
    if isinstance(dependant.call, Scoped):
        yield dependant.call
    for dependency in dependant.dependencies:
        yield from _asked_by(dependency)


def describe_keys(app: FastAPI) -> None:
    """Add to the description of the API which routes accept keys, and with which scope."""
    describe = app.openapi
    scheme = {
        "type": "http",
        "scheme": "bearer",
        "bearerFormat": f"{PREFIX}<id>_<secret>_<check>",
        "description": "A key for machines: it opens what names a scope of the key, and no more.",
    }

    def openapi() -> dict[str, Any]:
        description = describe()
        description["components"].setdefault("securitySchemes", {})[SCHEME] = scheme
        for method, path, scope in scoped_routes(app.routes):
            operation = description["paths"].get(path, {}).get(method.lower())
            ways = operation.setdefault("security", []) if operation else []
            if all(SCHEME not in way for way in ways):
                ways.append({SCHEME: [] if scope is None else [scope]})
        return description

    app.openapi = openapi  # type: ignore[method-assign]  # how FastAPI wants it extended
