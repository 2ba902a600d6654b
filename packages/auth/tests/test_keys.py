"""Rings of keys: how they are rotated and checked."""

import base64
from datetime import date

import pytest

from app_auth.keys import RingUnchanged, activated, added, new_key, retired, weaknesses
from app_auth.settings import AuthSettings, Key

TODAY = date(2026, 11, 23)


def key_of(secret: bytes, *, kid: str = "1") -> Key:
    return Key.model_validate({"kid": kid, "secret": base64.b64encode(secret).decode()})


def test_a_new_key_says_when_it_was_made_and_is_like_no_other() -> None:
    first, second = new_key(TODAY), new_key(TODAY)

    assert first.kid.startswith("20261123-")
    assert first.kid != second.kid
    assert first.key_bytes != second.key_bytes


def test_a_key_that_is_added_verifies_until_it_is_activated() -> None:
    old, new = new_key(TODAY), new_key(TODAY)

    both = added((old,), new)
    turned = activated(both, new.kid)

    assert [key.state for key in both] == ["active", "verify"]
    assert [key.state for key in turned] == ["verify", "active"]
    assert [key.secret for key in turned] == [old.secret, new.secret]


def test_a_key_that_signs_no_more_can_be_retired() -> None:
    old, new = new_key(TODAY), new_key(TODAY)
    ring = activated(added((old,), new), new.kid)

    assert [key.kid for key in retired(ring, old.kid)] == [new.kid]


def test_the_key_that_signs_stays() -> None:
    key = new_key(TODAY)

    with pytest.raises(RingUnchanged, match=f"the key {key.kid} signs: rotate first"):
        retired((key,), key.kid)


def test_a_key_that_is_not_in_the_ring_is_named() -> None:
    key = new_key(TODAY)

    with pytest.raises(RingUnchanged, match=f"there is no key 7; there is {key.kid}"):
        activated((key,), "7")


def test_fresh_keys_are_not_weak(auth_settings: AuthSettings) -> None:
    assert [*weaknesses(auth_settings)] == []


@pytest.mark.parametrize(
    ("secret", "weakness"),
    [
        (bytes(range(32)), "the key 1 has been published"),
        (b"\xff\x00" * 16, "the key 1 is not random: `openssl rand -base64 32` makes one"),
        (b"the quick brown fox jumps over a dog", "the key 1 is not random: `openssl rand -base64 32` makes one"),
    ],
)
def test_a_weak_key_is_told_from_a_random_one(auth_settings: AuthSettings, secret: bytes, weakness: str) -> None:
    settings = auth_settings.model_copy(update={"peppers": (key_of(secret),)})

    assert [*weaknesses(settings)] == [("peppers", weakness)]


def test_a_key_in_two_rings_is_weak(auth_settings: AuthSettings) -> None:
    settings = auth_settings.model_copy(update={"refresh_keys": auth_settings.keys})

    assert [*weaknesses(settings)] == [("refresh_keys", "the key 1 is in keys too; each ring needs keys of its own")]
