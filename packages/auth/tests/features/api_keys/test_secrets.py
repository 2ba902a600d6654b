"""The text of a key, and the digest that is stored of it."""

import re
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app_auth.errors import InvalidToken
from app_auth.features.api_keys.secrets import (
    ALPHABET,
    SECRET_LENGTH,
    KeyDigests,
    KeyText,
    check_of,
    new_key_text,
    parse_key,
)
from app_auth.testing import new_key
from app_db.types import new_id

keys = st.builds(KeyText, st.uuids(), st.text(ALPHABET, min_size=SECRET_LENGTH, max_size=SECRET_LENGTH))


@given(keys)
def test_a_key_is_what_its_text_says(key: KeyText) -> None:
    assert parse_key(str(key)) == key


@given(keys, st.integers(0, 85), st.sampled_from(ALPHABET + "_-. \n"))
def test_a_key_with_a_typing_error_costs_no_query(key: KeyText, place: int, other: str) -> None:
    text = str(key)
    wrong = text[:place] + other + text[place + 1 :]
    if wrong == text:
        return

    with pytest.raises(InvalidToken):
        parse_key(wrong)


def test_scanners_of_secrets_find_a_key_by_its_shape() -> None:
    text = str(new_key_text(new_id()))

    assert re.fullmatch(r"gw_[0-9a-f]{32}_[0-9A-Za-z]{43}_[0-9A-Za-z]{6}", text)


def test_no_two_keys_have_one_secret() -> None:
    key_id = new_id()

    assert new_key_text(key_id) != new_key_text(key_id)


def test_a_check_has_one_length() -> None:
    assert check_of("") == "000000"


def test_a_digest_belongs_to_one_key_and_one_pepper() -> None:
    key, pepper = new_key_text(new_id()), new_key("1")
    digests = KeyDigests((pepper,))
    digest = digests.of(key)

    assert digests.is_right(key, digest, pepper="1")
    assert not digests.is_right(new_key_text(key.id), digest, pepper="1")
    assert not digests.is_right(KeyText(UUID(int=1), key.secret), digest, pepper="1")
    assert not KeyDigests((new_key("1"),)).is_right(key, digest, pepper="1")
    assert not digests.is_right(key, digest, pepper="a retired one")
