"""The keys of encrypted payloads in the settings."""

import base64
import os

import pytest

from app_auth.payload_keys import PayloadKeySettings, require_payload_keys
from app_db.jobs.payload import JobPayload
from app_db.types import new_id
from app_runtime.configuration import Misconfigured


class Charge(JobPayload, encrypted=True):
    kind = "test.charge"


class Note(JobPayload):
    kind = "test.note"


def ring(*states: str) -> list[dict[str, str]]:
    secrets = [base64.b64encode(os.urandom(32)).decode() for _ in states]
    return [
        {"kid": str(number), "secret": secret, "state": state}
        for number, (secret, state) in enumerate(zip(secrets, states, strict=True))
    ]


def test_nothing_starts_without_a_key_of_encrypted_kinds() -> None:
    with pytest.raises(Misconfigured, match=r"APP_JOBS__KEYS: test\.charge: its payload is encrypted"):
        require_payload_keys(PayloadKeySettings(), [Note, Charge])

    require_payload_keys(PayloadKeySettings(), [Note])
    require_payload_keys(PayloadKeySettings.model_validate({"keys": ring("active")}), [Charge])


def test_the_active_key_of_the_ring_encrypts() -> None:
    keys = PayloadKeySettings.model_validate({"keys": ring("verify", "active")}).payload_keys

    envelope = keys.seal("x", job_id=(job_id := new_id()), kind="test.charge", part="payload")

    assert envelope["$encrypted"]["kid"] == "1"
    assert keys.open(envelope, job_id=job_id, kind="test.charge", part="payload") == "x"
    assert not PayloadKeySettings().payload_keys
