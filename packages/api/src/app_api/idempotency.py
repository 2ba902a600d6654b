"""Idempotency-Key: a request that is repeated with its key is carried out once (ADR-0068).

It follows draft-ietf-httpapi-idempotency-key-header-07. An answer is kept for 24 hours, in the transaction of the work.
"""

import hashlib
import json
import re
from collections.abc import Callable, Coroutine, Iterable, Iterator
from dataclasses import dataclass
from typing import Annotated, Any, Final
from uuid import UUID

from fastapi import APIRouter, Depends, FastAPI, Header, Request, Response
from fastapi.routing import APIRoute

from app_api.dependencies import CALLER, SessionDep, get_database, get_session
from app_auth.kept_answers import AnswerLost, open_answer, seal_answer
from app_auth.principal import Caller
from app_db import Session
from app_db.errors import BadRequest, Invalid
from app_db.repositories.idempotency import Claim, IdempotencyRepository, KeptAnswer, RequestUnderWay
from app_runtime.discovery import FeatureError

HEADER: Final = "Idempotency-Key"
REPLAYED: Final = "Idempotency-Replayed"
SHORTEST_OF_STRANGERS: Final = 16
_QUOTED: Final = re.compile(r'"((?:[ !#-\[\]-~]|\\["\\]){1,255})"')  # a String of RFC 9651, 3.3.3
_BARE: Final = re.compile(r"[!#-+\--:<-~]{1,255}")  # as most clients send it: no quote, comma, semicolon or blank
_CLAIM: Final = "groundwork_claim"


class InvalidIdempotencyKey(BadRequest):
    """Idempotency-Key is one line of 1 to 255 visible characters; without an account, of at least 16 random ones."""

    code = "invalid_idempotency_key"


class IdempotencyKeyReused(Invalid):
    """This Idempotency-Key was used for another request: with another body, method or path."""

    code = "idempotency_key_reused"


PROBLEMS: Final = (InvalidIdempotencyKey, IdempotencyKeyReused, RequestUnderWay, AnswerLost)
"""For `problem_responses` of a route with `IdempotentDep`."""


@dataclass(frozen=True, slots=True)
class _Claimed:
    """The claim of a request, and what tells it from other requests."""

    claim: Claim
    session: Session
    fingerprint: str


class Repetition(Exception):
    """Ends a repetition with the first answer, after the rollback of its own transaction."""

    def __init__(self, response: Response) -> None:
        super().__init__()
        self.response = response


async def claim_key(
    request: Request,
    session: SessionDep,
    key: Annotated[
        str | None, Header(alias=HEADER, description="Repeat a request with its key: it is done once.")
    ] = None,
) -> None:
    """Claim the key of a request, if it has one, for its account.

    Raises:
        InvalidIdempotencyKey: it is none, or there are two.
        RequestUnderWay: the request is being carried out.
        KeptAnswer: it was; the route answers a repetition then.
    """
    if key is None:
        return
    caller: Caller | None = request.scope.get(CALLER)
    user_id = None if caller is None else caller.user_id
    claim = claim_of(user_id, read_key(request.headers.getlist(HEADER), is_stranger=user_id is None))
    request.scope[_CLAIM] = _Claimed(claim, session, await _fingerprint_of(request))
    await IdempotencyRepository(session).claim(claim)  # guard: test_a_repetition_gets_the_first_answer_byte_for_byte


IdempotentDep = Annotated[None, Depends(claim_key)]
"""Lets a route take an Idempotency-Key. It is the last parameter, and the work is done in the session of `SessionDep`.

Example:
    @router.post("", status_code=201, responses=problem_responses(*idempotency.PROBLEMS))
    async def create_pet(body: PetCreate, principal: PrincipalDep, session: SessionDep, _: IdempotentDep) -> PetRead:
        return PetRead.model_validate(await service.add_pet(session, principal, name=body.name))
"""


def read_key(lines: list[str], *, is_stranger: bool) -> str:
    """Return the key of the header: a String of RFC 9651, or, as most clients send it, its bare text.

    Without an account nothing but the key tells one client from another, so that it has to be long.

    Raises:
        InvalidIdempotencyKey.

    Example:
        >>> read_key(['"8e03978e-40d5-43dd-bc93-6894a57f9324"'], is_stranger=True)
        '8e03978e-40d5-43dd-bc93-6894a57f9324'
    """
    line = lines[0].strip(" \t") if len(lines) == 1 else ""  # guard: test_what_is_no_key_is_refused
    quoted, bare = _QUOTED.fullmatch(line), _BARE.fullmatch(line)
    key = re.sub(r"\\(.)", r"\1", quoted[1]) if quoted else bare[0] if bare else ""
    if not key or (is_stranger and len(key) < SHORTEST_OF_STRANGERS):
        raise InvalidIdempotencyKey
    return key


def claim_of(user_id: UUID | None, key: str) -> Claim:
    """Return the claim of a key: accounts do not share theirs, and the database does not hold the key."""
    account = b"" if user_id is None else user_id.bytes
    digest = hashlib.sha256(b"idempotency\0" + account + b"\0" + key.encode()).digest()
    return Claim(UUID(bytes=digest[:16]), int.from_bytes(digest[16:24], signed=True), user_id)


async def _fingerprint_of(request: Request) -> str:
    target = request.scope["raw_path"] + b"?" + request.scope["query_string"]
    body = hashlib.sha256(await request.body()).digest()
    return hashlib.sha256(b"\0".join((request.method.encode(), target, body))).hexdigest()


class IdempotentRoute(APIRoute):
    """A route that keeps its answer before the commit, and gives it again. `keep_answers` makes routes to such ones."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return the handler, which runs inside the dependencies: their transaction is open still (FastAPI 0.165)."""
        handle = super().get_route_handler()

        async def handle_once(request: Request) -> Response:
            try:
                response = await handle(request)
            except KeptAnswer as kept:
                # Raised, not returned: what this request has written meanwhile is rolled back.
                raise Repetition(_answer_again(request, kept)) from None
            await _keep(request, response)
            return response

        return handle_once


async def _keep(request: Request, response: Response) -> None:
    claimed: _Claimed | None = request.scope.get(_CLAIM)
    if claimed is None:
        return
    headers = [(name.decode(), value.decode("latin-1")) for name, value in response.raw_headers]
    about = {"request": claimed.fingerprint, "status": response.status_code, "headers": headers}
    answer = json.dumps(about).encode() + b"\n" + bytes(response.body)
    sealed, key_id = seal_answer(request.state.auth.settings, answer, request_id=claimed.claim.id)
    answers = IdempotencyRepository(claimed.session)  # in the transaction of the work
    await answers.keep(
        claimed.claim, sealed, key_id=key_id
    )  # guard: test_a_repetition_gets_the_first_answer_byte_for_byte


def _answer_again(request: Request, kept: KeptAnswer) -> Response:
    """Return the first answer.

    Raises:
        IdempotencyKeyReused: it is that of another request.
        AnswerLost.
    """
    claimed: _Claimed = request.scope[_CLAIM]
    settings = request.state.auth.settings
    answer = open_answer(settings, kept.answer, request_id=claimed.claim.id, key_id=kept.key_id)
    head, _, body = answer.partition(b"\n")
    about = json.loads(head)
    if about["request"] != claimed.fingerprint:
        raise IdempotencyKeyReused  # guard: test_a_key_is_good_for_one_request
    response = Response(body, about["status"])
    response.raw_headers = [(name.encode(), value.encode("latin-1")) for name, value in about["headers"]]
    response.headers[REPLAYED] = "true"
    return response


def keep_answers(routers: Iterable[APIRouter]) -> None:
    """Let the routes with `IdempotentDep` keep their answers. To be called before a router is included.

    Raises:
        FeatureError: `IdempotentDep` is not the last parameter, so that it might not know the account yet; or the work
            is not in the transaction of `SessionDep`.
    """
    for route in _routes_of(routers):
        calls = [dependency.call for dependency in route.dependant.dependencies]
        if claim_key not in calls:
            continue
        if calls[-1] is not claim_key:
            raise FeatureError(f"{route.path}: make IdempotentDep the last parameter of {route.name}")
        if get_session not in calls or get_database in calls:
            raise FeatureError(f"{route.path}: {route.name} has to do its work in the session of SessionDep")
        # FastAPI makes the handler when the route is included, by this class.
        route.__class__ = IdempotentRoute


def _routes_of(routers: Iterable[APIRouter]) -> Iterator[APIRoute]:
    for router in routers:
        yield from (route for route in router.routes if isinstance(route, APIRoute))
        yield from _routes_of(route.original_router for route in router.routes if hasattr(route, "original_router"))


def add_repetitions(app: FastAPI) -> None:
    """Let the application answer repetitions."""

    @app.exception_handler(Repetition)
    async def answer(request: Request, repetition: Repetition) -> Response:
        return repetition.response
