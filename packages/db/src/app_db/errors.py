"""Expected failures, without HTTP in them."""

import inspect
from typing import Any, ClassVar

from app_db.session import Session


class AppError(Exception):
    """Something went wrong that the caller can be told about."""

    code: ClassVar[str] = "error"

    @classmethod
    def describe(cls) -> str:
        """Return the `detail` for clients: the docstring of the class, one fixed sentence per code."""
        return inspect.cleandoc(cls.__doc__ or cls.code)

    def explain(self) -> str:
        """Return the `detail` of this error: the same sentence, with numbers if the class has some."""
        return self.describe()

    @property
    def members(self) -> dict[str, Any]:  # Any: JSON
        """Further members of the problem document (RFC 9457, 3.2)."""
        return {}

    def reason(self) -> str:
        """Return the text for operators on a command line, which may say more than clients learn."""
        return self.explain()

    async def aftermath(self, session: Session) -> None:
        """Write facts that must survive the rollback of this error.

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
