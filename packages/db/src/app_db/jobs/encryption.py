"""Encrypted payloads: what jobs of a class with `encrypted=True` leave in the ledger is an envelope.

Payload, result, results of steps and cursor are sealed by AES-256-GCM, bound to job, kind and part. `progress` stays
plain: it exists to be shown. Payloads that waited before their class was encrypted are still read: readers of the
ledger are kept out, writers are not. Nothing is re-encrypted: jobs end, then their key retires.
"""

import base64
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from app_db.jobs.payload import JobPayload, UnknownPayload, checked_json
from app_db.session import Session

VARIABLE: Final = "APP_JOBS__KEYS"
PAYLOAD_KEYS: Final = "payload_keys"
"""Key of `session.info`: the `PayloadKeys` of the process."""
ENVELOPE: Final = "$encrypted"
"""The only member of an envelope; no field of a payload has such a name."""
HIDDEN: Final[dict[str, Any]] = {"encrypted": True}
"""What is shown instead of an envelope."""
VERSION: Final = 1
NONCE: Final = 12
"""Bytes that AES-GCM wants (NIST SP 800-38D, 8.2); random, as a key seals far fewer than 2^32 values."""


class NoPayloadKeys(RuntimeError):
    """This process has no key for an encrypted payload."""

    def __init__(self, kind: str) -> None:
        super().__init__(
            f"{kind}: its payload is encrypted, and this process has no key: set {VARIABLE} "
            "(`python -m app_api config rotate jobs_keys` makes a ring)"
        )


class PayloadLocked(UnknownPayload):
    """The envelope cannot be opened here: its key is not in the ring, or it was changed, or moved from another job."""


class PayloadKeys:
    """The ring of a process: the active key encrypts, and all of them decrypt."""

    def __init__(self, secrets: Mapping[str, bytes], *, active: str | None = None) -> None:
        """Take the secrets by their id, the oldest first, and the id of the one that encrypts."""
        self._ciphers = {kid: AESGCM(_derived(secret, b"job payload")) for kid, secret in secrets.items()}
        self._active = active
        oldest = next(iter(secrets.values()), None)
        self._digesting = None if oldest is None else _derived(oldest, b"unique job")

    def __bool__(self) -> bool:
        return self._active is not None

    def require(self, kind: str) -> None:
        """Refuse to go on without a key.

        Raises:
            NoPayloadKeys: there is none.
        """
        if self._active is None:
            raise NoPayloadKeys(kind)  # guard: test_an_encrypted_payload_is_not_enqueued_without_a_key

    def seal(self, value: Any, *, job_id: UUID, kind: str, part: str) -> dict[str, Any]:  # Any: JSON
        """Return the envelope of a value; it can be opened as the same part of the same job only.

        Raises:
            NoPayloadKeys: there are no keys.
        """
        self.require(kind)
        assert self._active is not None, "`require` has looked"
        nonce = os.urandom(NONCE)
        sealed = self._ciphers[self._active].encrypt(nonce, json.dumps(value).encode(), _bound(job_id, kind, part))
        return {ENVELOPE: {"v": VERSION, "kid": self._active, "nonce": _text(nonce), "text": _text(sealed)}}

    def open(self, envelope: Mapping[str, Any], *, job_id: UUID, kind: str, part: str) -> Any:  # Any: JSON
        """Return the value in an envelope.

        Raises:
            PayloadLocked: this ring cannot open it, or it is not that of this part of this job.
        """
        try:
            inner = envelope[ENVELOPE]
            version, kid, nonce, sealed = inner["v"], inner["kid"], inner["nonce"], inner["text"]
            if version != VERSION:
                raise PayloadLocked(
                    f"{kind}: the {part} is in an envelope of version {version}: deploy the newer release"
                )
            if kid not in self._ciphers:
                raise PayloadLocked(
                    f"{kind}: the {part} is encrypted with the key {kid}, which is not in {VARIABLE}: add it again, or "
                    "discard the job"
                )
            opened = self._ciphers[kid].decrypt(
                base64.b64decode(nonce), base64.b64decode(sealed), _bound(job_id, kind, part)
            )  # guard: test_an_envelope_that_was_moved_or_changed_is_refused
        except (InvalidTag, KeyError, TypeError, ValueError) as error:
            raise PayloadLocked(
                f"{kind}: the {part} was changed, or moved from another job, or its key has another secret"
            ) from error
        return json.loads(opened)

    def digesting(self, kind: str) -> bytes:
        """Return the key of digests of unique jobs: of the oldest secret, so that all processes agree while one turns.

        Raises:
            NoPayloadKeys: there are no keys.
        """
        self.require(kind)
        assert self._digesting is not None, "`require` has looked"
        return self._digesting


NO_KEYS: Final = PayloadKeys({})


def keys_of(session: Session) -> PayloadKeys:
    """Return the keys of the process that a session of the write engine belongs to."""
    keys: PayloadKeys = session.info.get(PAYLOAD_KEYS, NO_KEYS)
    return keys


def is_envelope(value: object) -> bool:
    """Whether a value of the ledger is an envelope."""
    return isinstance(value, dict) and ENVELOPE in value


def shown(value: Any) -> Any:  # Any: JSON
    """Return a value of the ledger as it may be shown: `HIDDEN` instead of an envelope."""
    return HIDDEN if is_envelope(value) else value


def shown_steps(steps: list[dict[str, Any]] | None) -> list[dict[str, Any]] | None:  # Any: JSON
    """Return committed steps as they may be shown."""
    return steps and [{**step, "result": shown(step["result"])} for step in steps]


def stored_json(session: Session, job_id: UUID, payload: JobPayload) -> str:
    """Return the JSON of a payload as the ledger keeps it, after the checks of `checked_json`.

    Raises:
        ValueError: as `checked_json` does; for an encrypted payload without a cause and without a value.
        NoPayloadKeys: it is to be encrypted, and there are no keys.
    """
    if not payload.is_encrypted:
        return checked_json(payload)
    kind, keys = payload.kind, keys_of(session)
    keys.require(kind)
    try:
        plain = json.loads(checked_json(payload))
    except ValueError as error:
        reason = type(payload).why_not(error)
    else:
        return json.dumps(keys.seal(plain, job_id=job_id, kind=kind, part="payload"))
    raise ValueError(f"{kind}: {reason}")  # guard: test_an_encrypted_payload_that_is_refused_shows_no_value


@dataclass(frozen=True, slots=True)
class JobCipher:
    """Seals and opens what one job leaves in the ledger; what is not encrypted passes as it is."""

    keys: PayloadKeys
    job_id: UUID
    kind: str
    is_encrypted: bool

    def seal(self, part: str, value: Any) -> Any:  # Any: JSON
        """Return a value to store; None stays None."""
        if not self.is_encrypted or value is None:
            return value
        return self.keys.seal(value, job_id=self.job_id, kind=self.kind, part=part)

    def open(self, part: str, value: Any) -> Any:  # Any: JSON
        """Return a stored value.

        Raises:
            PayloadLocked: its envelope cannot be opened.
        """
        if not is_envelope(value):
            return value
        return self.keys.open(value, job_id=self.job_id, kind=self.kind, part=part)

    def read[P: JobPayload](self, payload_class: type[P], stored: Mapping[str, Any], version: int) -> P:  # Any: JSON
        """Return the payload of the job: as `JobPayload.read`, out of its envelope if it is in one.

        Raises:
            UnknownPayload: the envelope cannot be opened (`PayloadLocked`), or the fields do not fit the class.
        """
        return payload_class.read(self.open("payload", stored), version)


def _derived(secret: bytes, purpose: bytes) -> bytes:
    return HKDF(SHA256(), 32, salt=None, info=purpose).derive(secret)


def _bound(job_id: UUID, kind: str, part: str) -> bytes:
    """Return what the envelope is bound to."""
    return json.dumps([VERSION, str(job_id), kind, part]).encode()


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()
