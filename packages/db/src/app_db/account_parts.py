"""What tables hold about an account that must end when its address turns out to be somebody else's."""

from enum import StrEnum
from typing import Any, Final

PART: Final = "account_part"


class AccountPart(StrEnum):
    """How the rows of a table belong to the user in its column `user_id`, and what ends them."""

    LINK = "link"
    """A link that was mailed: it ends with the password, the address and the account's rights."""
    WAY_IN = "way_in"
    """Something that signs in by itself, as a passkey or a key does: it ends when its owner was not the account's."""
    KEY = "key"
    """Something that acts for its owner without a sign-in, as a key for machines: it ends with the account's rights."""
    SECOND_FACTOR = "second_factor"
    """Something that is asked for besides: only who proves an address for the first time does without it."""


def part_of_account(part: AccountPart, **info: Any) -> dict[str, dict[str, Any]]:  # Any: of SQLAlchemy
    """Return the mark for `__table_args__` of a table with a column `user_id`.

    Example:
        class Passkey(Base):
            __table_args__ = (Index(None, "user_id"), part_of_account(AccountPart.WAY_IN))
    """
    return {"info": {PART: part.value, **info}}  # its text, as Alembic writes it into revisions
