"""Secrets of endpoints at rest, and what they sign."""

import base64

import pytest

from app_auth.features.webhooks.errors import SecretLost
from app_auth.features.webhooks.secrets import LENGTH, new_secret, seal, signature, text_of, unseal
from app_auth.testing import new_key
from app_db.types import new_id

RING = (new_key(),)
KID = RING[0].kid


def test_secrets_are_opened_for_their_endpoint_newest_first() -> None:
    new, old, endpoint_id = new_secret(), new_secret(), new_id()

    sealed, key_id = seal(RING, [new, old], endpoint_id=endpoint_id)

    assert new not in sealed
    assert unseal(RING, sealed, endpoint_id=endpoint_id, key_id=key_id) == [new, old]


def test_a_secret_belongs_to_its_endpoint() -> None:
    endpoint_id = new_id()
    sealed, key_id = seal(RING, [new_secret()], endpoint_id=endpoint_id)

    other_key = new_key().model_copy(update={"kid": key_id})
    for ring, content, endpoint, kid in (
        (RING, sealed, new_id(), key_id),
        (RING, b"", endpoint_id, key_id),
        ((other_key,), sealed, endpoint_id, key_id),
        (RING, sealed, endpoint_id, "retired"),
    ):
        with pytest.raises(SecretLost):
            unseal(ring, content, endpoint_id=endpoint, key_id=kid)


def test_a_secret_is_shown_in_standard_base64() -> None:
    secret = b"\xfb\xff" * 16

    text = text_of(secret)

    assert text.startswith("whsec_+//7")
    assert base64.b64decode(text.removeprefix("whsec_"), validate=True) == secret
    assert len({new_secret() for _ in range(10)}) == 10
    assert len(new_secret()) == LENGTH


def test_a_signature_is_that_of_the_published_example() -> None:
    """The example of the specification, with its own secret of 24 bytes."""
    secret = base64.b64decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")

    signed = signature(
        [secret], message_id="msg_p5jXN8AQM9LWM0D4loKWxJek", timestamp=1614265330, body=b'{"test": 2432232314}'
    )

    assert signed == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
