"""Answers that are kept for a repetition of their request, encrypted: they may hold a secret that is shown once."""

import hashlib
import hmac
import secrets
from typing import Final
from uuid import UUID

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from app_auth.settings import Key, OneTimeSettings, active
from app_db.errors import Conflict

_NONCE: Final = 12
"""Bytes, random for each answer (NIST SP 800-38D, 8.2.2)."""
_PURPOSE: Final = b"an answer kept for a repetition\0"
"""No link is derived from such a message, so that this key and the links of the ring tell nothing of each other."""


class AnswerLost(Conflict):
    """This request was carried out, but its answer cannot be read any more: ask for its result in another way."""

    code = "answer_lost"


def seal_answer(settings: OneTimeSettings, answer: bytes, *, request_id: UUID) -> tuple[bytes, str]:
    """Return an answer that is encrypted for the row of its request, and the id of the key.

    The key is derived from the ring of links in mails, whose keys are kept for a day, as answers are. Without the ring
    a copy of the database shows no answer, and no body that was sent: with a plain digest of it, a password could be
    guessed.
    """
    key, nonce = active(settings.token_keys), secrets.token_bytes(_NONCE)
    return nonce + _cipher(key).encrypt(nonce, answer, request_id.bytes), key.kid


def open_answer(settings: OneTimeSettings, sealed: bytes, *, request_id: UUID, key_id: str) -> bytes:
    """Return what `seal_answer` has encrypted for this row.

    Raises:
        AnswerLost: its key was retired within the day, or the row holds something else.
    """
    key = next((key for key in settings.token_keys if key.kid == key_id), None)
    if key is None:
        raise AnswerLost
    try:
        return _cipher(key).decrypt(sealed[:_NONCE], sealed[_NONCE:], request_id.bytes)
    except (InvalidTag, ValueError):
        raise AnswerLost from None  # guard: test_an_answer_belongs_to_its_row


def _cipher(key: Key) -> AESGCM:
    return AESGCM(hmac.digest(key.key_bytes, _PURPOSE, hashlib.sha256))
