"""The tokens of the two links: to the new address, and to the one before."""

from datetime import timedelta
from typing import Final

from app_auth.one_time import OneTimeTokens
from app_db.features.email_change.models import EmailChange, FormerEmail

CONFIRM: Final = "change_email"
UNDO: Final = "undo_email_change"
CONFIRM_WITHIN: Final = timedelta(hours=24)
UNDO_WITHIN: Final = timedelta(hours=72)


def confirming(tokens: OneTimeTokens, change: EmailChange) -> str:
    """Return the token that confirms a change: of one account, from one address to another."""
    addresses = (change.before_canonical, change.email_canonical)
    return tokens.sign(change.id, CONFIRM, *addresses, key_id=change.key_id)


def undoing(tokens: OneTimeTokens, former: FormerEmail) -> str:
    """Return the token that brings a former address back."""
    return tokens.sign(former.id, UNDO, former.email_canonical, key_id=former.key_id)
