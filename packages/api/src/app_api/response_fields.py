"""The header fields of responses in the API's description: which response has which, and their meaning."""

from collections.abc import Iterable
from typing import Any, Final

from app_auth.errors import InvalidToken, Throttled
from app_auth.machines import InsufficientScope, KeyNotAccepted
from app_auth.permissions import OperatorRequired
from app_db.errors import AppError, Unauthenticated, Unavailable
from app_db.repositories.idempotency import RequestUnderWay

_MEANINGS: Final = {
    "Accept": "The media type that a body must have.",
    "Accept-Encoding": "How a body may be coded.",
    "Allow": "The methods that this path has.",
    "Idempotency-Replayed": "The answer is that of an earlier request with the same Idempotency-Key.",
    "Location": "Where to ask for what was begun.",
    "Retry-After": "Seconds after which to try again.",
    "WWW-Authenticate": "What the credentials lack (RFC 6750, 3).",
    "X-Request-ID": "The id to ask with; yours, if the request had one.",
}

ALWAYS: Final = ("X-Request-ID",)
"""Header fields of every response."""
OF_ANY_ERROR: Final = ("Accept", "Accept-Encoding", "Allow", "Retry-After", "WWW-Authenticate")
"""Header fields of errors that routes need not declare."""


def fields_of(error: type[AppError]) -> frozenset[str]:
    """Return the fields that every answer for an error carries."""
    names: set[str] = set()
    if issubclass(error, Unauthenticated | OperatorRequired | KeyNotAccepted | InsufficientScope):
        names.add("WWW-Authenticate")
    if issubclass(error, Throttled | Unavailable | RequestUnderWay):
        names.add("Retry-After")
    return frozenset(names)


def challenge_of(error: AppError) -> str | None:
    """Return the `WWW-Authenticate` of an error (RFC 6750, 3.1); None if it asks for no other credentials."""
    match error:
        case InvalidToken():
            return 'Bearer error="invalid_token"'
        case Unauthenticated():
            return "Bearer"  # no error code when the request carried no token at all
        case InsufficientScope():
            return f'Bearer error="insufficient_scope", scope="{error.scope}"'
        case OperatorRequired() | KeyNotAccepted():
            return 'Bearer error="insufficient_scope"'
        case _:
            return None


def describe_fields(names: Iterable[str], *, required: bool = True) -> dict[str, Any]:
    """Return the `headers` of a response in OpenAPI.

    Example:
        >>> describe_fields(["Location"])["Location"]["required"]
        True
    """
    return {
        name: {
            "description": _MEANINGS[name],
            "required": required,
            "schema": {"type": "integer" if name == "Retry-After" else "string"},
        }
        for name in sorted(names)
    }


def describe_errors(errors: Iterable[type[AppError]]) -> dict[str, Any]:
    """Return the `headers` of a status that stands for several errors; fields that all of them carry are required."""
    carried = [fields_of(error) for error in errors]
    every, some = frozenset.intersection(*carried), frozenset.union(*carried)
    return describe_fields(every) | describe_fields(some - every, required=False)


def add_what_all_carry(description: dict[str, Any]) -> None:
    """Add the header fields of every response to a whole document."""
    for operations in description["paths"].values():
        for operation in operations.values():
            for response in operation["responses"].values():
                response["headers"] = response.get("headers", {}) | describe_fields(ALWAYS)
