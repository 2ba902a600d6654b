"""Expected failures, without HTTP in them, and the way from a constraint's name to one of them."""

import inspect
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

from sqlalchemy.exc import DBAPIError, IntegrityError

from app_db.session import Session

_LONGEST_NAME = 63
"""Bytes that PostgreSQL keeps of a name."""
_REBUILT = re.compile(r"_cc(?:new|old)[0-9]*$")


class AppError(Exception):
    """Something went wrong that the caller can be told about."""

    code: ClassVar[str] = "error"

    @classmethod
    def describe(cls) -> str:
        """Return what the caller is told: the docstring of the class, one fixed sentence per code."""
        return inspect.cleandoc(cls.__doc__ or cls.code)

    def explain(self) -> str:
        """Return what this caller is told: the same sentence, with numbers where the class has some."""
        return self.describe()

    @property
    def members(self) -> dict[str, Any]:  # Any: JSON
        """What else a client may use, in members of the problem document (RFC 9457, 3.2)."""
        return {}

    def reason(self) -> str:
        """Return what operators are told on a command line: more than clients where more is known."""
        return self.explain()

    async def aftermath(self, session: Session) -> None:
        """Write what must be kept although this error rolls its transaction back.

        The edge calls it in a transaction of its own, after the rollback and before the answer.
        """


class BadRequest(AppError):
    """The request cannot be carried out as it stands."""

    code = "bad_request"


class Unauthenticated(AppError):
    """Not authenticated"""

    code = "not_authenticated"


class Forbidden(AppError):
    """You may not do this."""

    code = "forbidden"


class NotFound(AppError):
    """There is no such thing, or it is not yours."""

    code = "not_found"


class Conflict(AppError):
    """The request clashes with what is there already."""

    code = "conflict"


class Invalid(AppError):
    """A value is not acceptable."""

    code = "invalid"


class Unavailable(AppError):
    """The service cannot do this right now. Try again in a moment."""

    code = "unavailable"
    retry_after: ClassVar[int] = 1
    """Seconds after which a retry makes sense."""


@contextmanager
def violation_as(error: type[AppError], *, of: str) -> Iterator[None]:
    """Turn a violation of the constraint named `of` into `error`; any other violation passes through.

    The constraint decides races, not a SELECT before it: flush inside the block, where the clash can still be named.
    """
    try:
        yield
    except IntegrityError as exc:
        if _names(violated_by(exc), of):
            raise error from exc  # guard: test_a_violation_of_the_named_constraint_becomes_the_error
        raise


def violated_by(error: DBAPIError) -> str:
    """Return the name of the constraint, or of the unique index, that an error is about; "" if it is about none."""
    # asyncpg's own exception, which carries the name, is the cause of SQLAlchemy's.
    return getattr(getattr(error.orig, "__cause__", None), "constraint_name", None) or ""


def is_being_rebuilt(name: str) -> bool:
    """Whether an index has the name of one that `REINDEX … CONCURRENTLY` is about to put in place, or to drop."""
    return _REBUILT.search(name) is not None


def _names(violated: str, constraint: str) -> bool:
    """Whether a name is that of the constraint, or of its twin while its index is rebuilt without a lock."""
    own = _REBUILT.sub("", violated)
    # PostgreSQL shortens a long name to make room for the ending.
    is_cut = own != violated and len(violated.encode()) == _LONGEST_NAME and constraint.startswith(own)
    return constraint in {violated, own} or is_cut
