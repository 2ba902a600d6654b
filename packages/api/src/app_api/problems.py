"""Every error as a problem document (RFC 9457) with a stable `code`. The one place that knows HTTP status codes."""

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any, ClassVar

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema
from starlette.exceptions import HTTPException

from app_api.http_names import allowed_methods
from app_api.response_fields import OF_ANY_ERROR, add_what_all_carry, challenge_of, describe_errors, describe_fields
from app_auth.errors import InvalidGrant, Throttled
from app_db.errors import AppError, BadRequest, Conflict, Forbidden, Invalid, NotFound, Unauthenticated, Unavailable
from app_db.repositories.idempotency import RequestUnderWay

log = structlog.get_logger(__name__)

MEDIA_TYPE = "application/problem+json"


class PayloadTooLarge(AppError):
    """The body is larger than this endpoint takes."""

    code = "payload_too_large"

    def __init__(self, *, max_bytes: int) -> None:
        self.max_bytes = max_bytes

    def explain(self) -> str:
        """Say how large a body may be."""
        return f"The body is larger than this endpoint takes: at most {self.max_bytes} bytes."

    @property
    def members(self) -> dict[str, Any]:  # Any: JSON
        """How large a body may be."""
        return {"max_bytes": self.max_bytes}


class SlowBody(AppError):
    """The body did not arrive in time."""

    code = "slow_body"


class MalformedRequest(BadRequest):
    """The request is malformed."""

    code = "malformed_request"


class InvalidRequest(BadRequest):
    """A parameter is missing."""

    code = "invalid_request"


class ValidationFailed(Invalid):
    """The request is not valid."""

    code = "validation_failed"

    def __init__(self, errors: Sequence["FieldProblem"] = ()) -> None:
        self.errors = errors

    @property
    def members(self) -> dict[str, Any]:  # Any: JSON
        """What is wrong with each value."""
        return {"errors": self.errors}


class InvalidText(Invalid):
    """Text must be UTF-8, without U+0000 or half of a surrogate pair."""

    code = "invalid_text"


class UnsupportedMediaType(AppError):
    """A body must be JSON (application/json), or a form (application/x-www-form-urlencoded) where one is asked for."""

    code = "unsupported_media_type"
    accepts: ClassVar[tuple[str, str]] = ("Accept", "application/json")
    """The header field that says which bodies are accepted (RFC 9110, 15.5.16)."""


STATUS_BY_ERROR: Mapping[type[AppError], int] = {
    BadRequest: 400,
    Unauthenticated: 401,
    Forbidden: 403,
    NotFound: 404,
    SlowBody: 408,
    Conflict: 409,
    PayloadTooLarge: 413,
    UnsupportedMediaType: 415,
    Invalid: 422,
    Throttled: 429,
    Unavailable: 503,
}


class FieldProblem(BaseModel):
    """The error of one value. The value itself is never repeated."""

    pointer: str
    """`#/email` in a body (RFC 6901), `query/limit` or `path/job_id` elsewhere."""
    code: str
    detail: str


class Problem(BaseModel, extra="allow"):
    """RFC 9457, 3.1, with three members of ours: `code`, `request_id` and, for invalid values, `errors`."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str
    instance: str
    code: str
    request_id: str
    errors: list[FieldProblem] | None = None
    error: str | None = None
    """The OAuth name of the failure, at the token endpoints (RFC 6749, 5.2)."""


class ProblemResponse(JSONResponse):
    """A problem document about the request of `scope`."""

    media_type = MEDIA_TYPE

    def __init__(
        self,
        scope: Mapping[str, Any],
        status: int,
        *,
        code: str,
        detail: str,
        headers: Mapping[str, str] | None = None,
        **members: Any,
    ) -> None:
        problem = Problem(
            title=HTTPStatus(status).phrase,
            status=status,
            detail=detail,
            instance=path_as_it_came(scope),  # guard: test_the_instance_of_a_problem_is_the_path_as_it_came
            code=code,
            request_id=scope["state"]["request_id"],
            **members,
        )
        super().__init__(problem.model_dump(exclude_none=True), status, headers)


def path_as_it_came(scope: Mapping[str, Any]) -> str:
    """Return the path of the target with its escapes, and without its query, which may hold a secret.

    Decoded it would be another reference (RFC 9457, 3.1.5): `/x%3Fy` is a path, and `/x?y` a path and a query.
    """
    raw: bytes | None = scope.get("raw_path")
    return str(scope["path"]) if raw is None else raw.decode("latin-1")


def status_of(error: type[AppError]) -> int:
    """Return the status of an error by its nearest base in the table."""
    return next(STATUS_BY_ERROR[base] for base in error.__mro__ if base in STATUS_BY_ERROR)


def problem_responses(*errors: type[AppError]) -> dict[int | str, dict[str, Any]]:
    """Declare the errors of a route for its OpenAPI description.

    Example:
        router = APIRouter(prefix="/pets", responses=problem_responses(Unauthenticated, NotFound))
    """
    by_status: dict[int | str, list[type[AppError]]] = {}
    for error in errors:
        by_status.setdefault(status_of(error), []).append(error)
    return {
        status: _described(
            " / ".join(error.describe() for error in of_status),
            headers=describe_errors(of_status),  # guard: test_an_answer_carries_what_the_document_says
            examples={error.code: {"value": _example(error)} for error in of_status},
        )
        for status, of_status in by_status.items()
    }


def any_problem() -> dict[int | str, dict[str, Any]]:
    """Declare, for every route, that its other errors are problem documents too."""
    fields = describe_fields(OF_ANY_ERROR, required=False)
    return {"default": _described("Any other error", headers=fields), **problem_responses(ValidationFailed)}


def _described(description: str, *, headers: dict[str, Any] | None = None, **members: Any) -> dict[str, Any]:
    # Not as a `model`: FastAPI would file it under application/json.
    schema = {"$ref": "#/components/schemas/Problem"}
    return {
        "description": description,
        "headers": headers or {},
        "content": {MEDIA_TYPE: {"schema": schema, **members}},
    }


def app_error_response(scope: Mapping[str, Any], error: AppError, **members: Any) -> ProblemResponse:
    """Return the document for an expected failure, with further `members`."""
    scope["state"]["error"] = type(error)  # for the log and the figures, which RequestContext writes
    headers: dict[str, str] = {}
    if challenge := challenge_of(error):
        headers["WWW-Authenticate"] = challenge  # guard: test_a_403_names_what_is_lacking
    if isinstance(error, Throttled | Unavailable | RequestUnderWay):
        headers["Retry-After"] = str(error.retry_after)  # guard: test_who_is_throttled_is_told_for_how_long
    if isinstance(error, PayloadTooLarge | SlowBody | MalformedRequest):
        # The start of the next request is unknown.
        headers["Connection"] = "close"  # guard: test_a_body_that_turns_out_too_large_is_refused
    if isinstance(error, UnsupportedMediaType):
        name, value = error.accepts
        headers[name] = value  # guard: test_what_is_refused_for_its_media_type_is_told_what_would_be_taken
        if scope["method"] == "PATCH" and name == "Accept":
            headers["Accept-Patch"] = value  # RFC 5789, 2.2
    if isinstance(error, InvalidGrant | InvalidRequest):
        # The names of RFC 6749, 5.2; the `code` of this API may be more precise.
        members["error"] = InvalidGrant.code if isinstance(error, InvalidGrant) else error.code
    return ProblemResponse(
        scope,
        status_of(type(error)),
        code=error.code,
        detail=error.explain(),
        headers=headers,
        **error.members,
        **members,
    )


def internal_error_response(scope: Mapping[str, Any]) -> ProblemResponse:
    """Return the response to an internal error: a request id, and nothing else."""
    return ProblemResponse(scope, 500, code="internal_error", detail="Something went wrong on our side.")


def add_problem_handlers(app: FastAPI) -> None:
    """Turn errors of routes into problem documents, and add their schema to the API's description."""
    describe = app.openapi

    def openapi() -> dict[str, Any]:
        description = describe()
        _, schemas = models_json_schema([(Problem, "serialization")], ref_template="#/components/schemas/{model}")
        description["components"]["schemas"] |= schemas["$defs"]
        add_what_all_carry(description)  # guard: test_an_answer_carries_what_the_document_says
        return description

    app.openapi = openapi  # type: ignore[method-assign]  # how FastAPI wants it extended

    @app.exception_handler(AppError)
    async def expected(request: Request, error: AppError) -> ProblemResponse:
        if isinstance(error, Unavailable):
            log.warning("request_refused", code=error.code, cause=repr(error.__cause__))
        return app_error_response(request.scope, error)

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> ProblemResponse:
        fields = [field_problem(each) for each in error.errors()]
        return app_error_response(request.scope, ValidationFailed(errors=fields))

    @app.exception_handler(HTTPException)
    async def from_framework(request: Request, error: HTTPException) -> ProblemResponse:
        status = HTTPStatus(error.status_code)
        headers = dict(error.headers or {})
        if status is HTTPStatus.METHOD_NOT_ALLOWED:
            headers["Allow"] = ", ".join(sorted(allowed_methods(request, headers["Allow"])))
        return ProblemResponse(
            request.scope, status, code=status.name.lower(), detail=str(error.detail), headers=headers
        )


def field_problem(error: Mapping[str, Any], *, within: tuple[str, ...] = ()) -> FieldProblem:  # Any: of Pydantic
    """Return one of Pydantic's errors without its input; `within` is where in the request the value stands."""
    return FieldProblem(pointer=_pointer((*within, *error["loc"])), code=error["type"], detail=_detail(error))


def _detail(error: Mapping[str, Any]) -> str:
    """Return Pydantic's sentence without the parser's remark at its end, which may quote the input."""
    message: str = error["msg"]
    return message.split(", ", maxsplit=1)[0] if error["type"].endswith("_parsing") else message


def _pointer(location: tuple[str | int, ...]) -> str:
    where, *path = location
    steps = [str(step).replace("~", "~0").replace("/", "~1") for step in path]
    return "/".join(["#" if where == "body" else str(where), *steps])


def _example(error: type[AppError]) -> dict[str, Any]:
    status = status_of(error)
    return {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": error.describe(),
        "code": error.code,
    }
