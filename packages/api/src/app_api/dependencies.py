"""The dependencies of route handlers, each declared once."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Final

from fastapi import Depends, Query, Request
from fastapi.security import OAuth2PasswordBearer
from starlette.requests import HTTPConnection
from structlog.contextvars import bind_contextvars

from app_api.proxies import Network, read_client
from app_auth import sessions
from app_auth.auth import Auth
from app_auth.client import Client
from app_auth.errors import InvalidToken
from app_auth.machines import PREFIX, KeyNotAccepted
from app_auth.permissions import require_operator
from app_auth.principal import Principal
from app_db import Database, Session
from app_db.errors import AppError, Invalid, Unauthenticated
from app_db.paging import Cursor

SAFE_METHODS = frozenset({"GET", "HEAD"})  # RFC 9110, 9.2.1
CALLER: Final = "groundwork_caller"
"""The name in the scope of a request under which who asks is kept, once it is known."""


class Bearer(OAuth2PasswordBearer):
    """Reads the token from the Authorization header (RFC 6750, 2.1), and from nowhere else."""

    async def __call__(self, request: HTTPConnection) -> str | None:
        """Return the token, unverified; None if there is none, or another kind of credentials (RFC 6750, 3.1).

        Raises:
            InvalidToken: there are two such headers, or the header has no scheme with credentials.
        """
        match request.headers.getlist("authorization"):
            case [] | [""]:
                return None
            case [credentials] if " " in credentials:
                scheme, _, token = credentials.partition(" ")
                return token.strip() if scheme.lower() == "bearer" else None
            case _:
                raise InvalidToken  # guard: test_what_is_no_credential_at_all_is_an_invalid_token


bearer = Bearer(tokenUrl="/auth/access-token")


@asynccontextmanager
async def _with_aftermath(request: Request) -> AsyncIterator[Database]:
    """Let an error write the facts that must survive its rollback, in a unit of work of their own."""
    database: Database = request.state.database
    try:
        yield database
    except AppError as error:
        async with database.unit_of_work(request_id=request.state.request_id) as session:
            await error.aftermath(session)  # guard: test_reuse_over_http_ends_the_family
        raise


async def get_session(request: Request) -> AsyncIterator[Session]:
    """Open the one unit of work of a request; safe methods get the read engine, which cannot write."""
    read_only, request_id = request.method in SAFE_METHODS, request.state.request_id
    async with (
        _with_aftermath(request) as database,
        database.unit_of_work(read_only=read_only, request_id=request_id) as session,
    ):
        yield session


# "function" so that a failed commit becomes the response; the default commits after a 200 was sent.
SessionDep = Annotated[Session, Depends(get_session, scope="function")]
"""The transaction of a request: committed before the answer is sent, rolled back by an error. A GET cannot write.

Example:
    @router.post("/sign-out-everywhere", status_code=202)
    async def sign_out_everywhere(principal: PrincipalDep, session: SessionDep) -> UUID:
        return await enqueue(session, EndSessions(user_id=principal.user_id))
"""


async def get_database(request: Request) -> AsyncIterator[Database]:
    """Return the database, for a route whose one statement is a transaction by itself."""
    async with _with_aftermath(request) as database:
        yield database


DatabaseDep = Annotated[Database, Depends(get_database, scope="function")]
"""The database without a session: for a route with one statement, which commits by itself.

Example:
    mark = update(User).where(User.id == bindparam("user_id")).values(undeliverable_at=None).returning(User.email)

    @router.post("/mailable")
    async def mark_mailable(principal: PrincipalDep, database: DatabaseDep) -> str | None:
        row = await database.write_one(mark, {"user_id": principal.user_id})
        return None if row is None else row.email
"""


async def get_replica_session(request: Request) -> AsyncIterator[Session]:
    """Open a session for reads that may be stale: on a standby, if one is configured and reachable. It cannot write."""
    database: Database = request.state.database
    async with database.unit_of_work(stale=True, request_id=request.state.request_id) as session:
        yield session


ReplicaSessionDep = Annotated[Session, Depends(get_replica_session, scope="function")]
"""A session for reads that may be stale.

Never for authentication, nor for rows that the caller has just written (ADR-0051).

Example:
    @router.get("/users/{user_id}/sessions")
    async def count_sessions(user_id: UUID, _: OperatorDep, session: ReplicaSessionDep) -> int:
        return len(await UserSessionRepository(session).of_user(user_id))
"""


async def get_auth(request: Request) -> Auth:
    """Return the keys and the hashing pool of this process."""
    auth: Auth = request.state.auth
    return auth


AuthDep = Annotated[Auth, Depends(get_auth)]
"""The first argument of the services of app_auth: keys and the hashing pool of this process.

Example:
    @router.get("/passwords/shortest")
    async def read_shortest_password(auth: AuthDep) -> int:
        return auth.settings.password_min_length
"""


async def get_client(request: Request) -> Client:
    """Return the client of the request, for throttles and the audit."""
    trusted: tuple[Network, ...] = request.state.trusted_proxies
    return read_client(request, trusted=trusted)


ClientDep = Annotated[Client, Depends(get_client)]
"""The client of the request, for throttles and the audit.

Example:
    @router.post("/sign-out-elsewhere", status_code=204)
    async def sign_out_elsewhere(principal: PrincipalDep, session: SessionDep, client: ClientDep) -> None:
        await sessions.revoke_others(session, principal, client=client)  # the audit names the address
"""


async def get_bearer(token: Annotated[str | None, Depends(bearer)]) -> str:
    """Return the token of the Authorization header (RFC 6750, 2.1), unverified."""
    if token is None:
        raise Unauthenticated  # guard: test_logging_out_needs_a_token
    return token


BearerDep = Annotated[str, Depends(get_bearer)]
"""The token of the Authorization header, not verified; a request without one is a 401.

Example:
    @router.post("/sign-out", status_code=204)
    async def sign_out(token: BearerDep, auth: AuthDep, session: SessionDep, client: ClientDep) -> None:
        await sessions.sign_out(auth, session, token=token, client=client)
"""


async def get_principal(request: Request, token: Annotated[str | None, Depends(bearer)]) -> Principal:
    """Return the principal, by one query that finds session and user together.

    It runs on every request, so it opens no unit of work and uses no alias from above (ADR-0033).
    """
    if token is None:
        raise Unauthenticated  # guard: test_a_request_without_a_bearer_token_is_not_authenticated
    return await authenticate(request, token)


async def authenticate(request: Request, token: str) -> Principal:
    """Return the principal of an access token, for the dependencies of requests.

    Raises:
        KeyNotAccepted: it is a key for machines, whose check is right; whether it is one of ours was not looked up.
        InvalidToken.
    """
    try:
        principal = await sessions.authenticate(request.state.auth, request.state.database, token=token)
    except InvalidToken:
        if token.startswith(PREFIX):
            raise KeyNotAccepted from None  # guard: test_a_key_opens_no_route_that_does_not_ask_for_a_scope
        raise
    bind_contextvars(user_id=str(principal.user_id))  # guard: test_every_line_of_a_request_names_its_user
    request.scope[CALLER] = principal
    return principal


PrincipalDep = Annotated[Principal, Depends(get_principal)]
"""The user who is signed in; other requests are a 401.

Example:
    @router.get("/me/address")
    async def read_address(principal: PrincipalDep) -> str:
        return principal.email
"""


async def get_principal_if_any(request: Request, token: Annotated[str | None, Depends(bearer)]) -> Principal | None:
    """Return the principal; None for a request without a token. A token that is not valid is refused all the same."""
    return None if token is None else await get_principal(request, token)


OptionalPrincipalDep = Annotated[Principal | None, Depends(get_principal_if_any)]
"""The user who is signed in, or None.

Example:
    @router.get("/greeting")
    async def greet(principal: OptionalPrincipalDep) -> str:
        return "Hello" if principal is None else f"Hello {principal.email}"
"""


async def get_operator(principal: PrincipalDep) -> Principal:
    """Return the principal if it is an operator."""
    require_operator(principal)  # guard: test_what_is_for_operators_is_refused_to_others
    return principal


OperatorDep = Annotated[Principal, Depends(get_operator)]
"""The user who is signed in, if it is an operator; for others it is a 403.

Example:
    @router.post("/queues/{queue}/pause", status_code=204)
    async def pause_queue(queue: str, _: OperatorDep, session: SessionDep) -> None:
        await control.pause(session, queue)
"""


class InvalidCursor(Invalid):
    """This is not a cursor that this API has given out: take `next` of a page, or leave it out for the first page."""

    code = "invalid_cursor"


async def get_cursor(after: Annotated[str | None, Query(max_length=64)] = None) -> Cursor | None:
    """Return the place that the `next` of the previous page stands for."""
    try:
        return None if after is None else Cursor.parse(after)
    except ValueError:
        raise InvalidCursor from None


CursorDep = Annotated[Cursor | None, Depends(get_cursor)]
"""The place in a list that `?after=` names; None for the first page.

Example:
    @router.get("/users")
    async def list_users(_: OperatorDep, session: SessionDep, after: CursorDep, limit: LimitDep = 20) -> UserPage:
        return UserPage.model_validate(await UserRepository(session).page(after=after, limit=limit))
"""
LimitDep = Annotated[int, Query(ge=1, le=100)]
"""How many entries a page has at most, 1 to 100; the route gives it a default.

Example:
    @router.get("/me/sessions")
    async def list_sessions(principal: PrincipalDep, session: SessionDep, limit: LimitDep = 20) -> int:
        return len((await UserSessionRepository(session).of_user(principal.user_id))[:limit])
"""
