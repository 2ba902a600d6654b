"""The errors of keys for machines."""

from typing import Any

from app_auth.errors import InvalidToken
from app_db.errors import Conflict, Invalid, NotFound


class KeyExpired(InvalidToken):
    """Key expired"""


class InvalidKeyName(Invalid):
    """A key has a name of 1 to 100 characters."""

    code = "invalid_key_name"


class KeyNotFound(NotFound):
    """You have no key with this id."""

    code = "key_not_found"


class KeyNameTaken(Conflict):
    """You already have a key with this name."""

    code = "key_name_taken"


class TooManyKeys(Conflict):
    """You have as many keys as an account may have: revoke one first."""

    code = "too_many_keys"

    def __init__(self, *, most: int) -> None:
        super().__init__()
        self.most = most

    @property
    def members(self) -> dict[str, Any]:  # Any: JSON
        """How many keys an account may have."""
        return {"most": self.most}


class UnknownScope(Invalid):
    """A key has at least one scope, and only scopes that there are."""

    code = "unknown_scope"

    def __init__(self, *, scopes: tuple[str, ...]) -> None:
        super().__init__()
        self.scopes = scopes

    @property
    def members(self) -> dict[str, Any]:  # Any: JSON
        """Which scopes there are."""
        return {"scopes": self.scopes}


class LifeTooLong(Invalid):
    """A key lives from a day to a year."""

    code = "invalid_expiry"
