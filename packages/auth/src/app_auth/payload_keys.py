"""`APP_JOBS__…`: the keys of encrypted payloads, which whoever enqueues and whoever runs jobs need alike."""

from collections.abc import Iterable

from pydantic import BaseModel

from app_auth.settings import KeyRing, active
from app_db.jobs.encryption import NO_KEYS, VARIABLE, NoPayloadKeys, PayloadKeys
from app_db.jobs.payload import JobPayload
from app_runtime.configuration import Misconfigured


class PayloadKeySettings(BaseModel, frozen=True, hide_input_in_errors=True):
    """Without keys no job with an encrypted payload is enqueued, and none runs."""

    keys: KeyRing | None = None
    """For payloads and results of encrypted kinds of jobs; has to be set if there is one."""

    @property
    def payload_keys(self) -> PayloadKeys:
        """The keys for `Database.keep_secrets`."""
        if self.keys is None:
            return NO_KEYS
        return PayloadKeys({key.kid: key.key_bytes for key in self.keys}, active=active(self.keys).kid)


def require_payload_keys(settings: PayloadKeySettings, payload_classes: Iterable[type[JobPayload]]) -> PayloadKeys:
    """Return the keys; refuse encrypted kinds without one.

    Raises:
        Misconfigured: with a line that names them and the variable.
    """
    encrypted = sorted(each.kind for each in payload_classes if each.is_encrypted)
    if encrypted and settings.keys is None:
        reason = str(NoPayloadKeys(", ".join(encrypted)))
        raise Misconfigured(f"{VARIABLE}: {reason}")  # guard: test_nothing_starts_without_a_key_of_encrypted_kinds
    return settings.payload_keys
