"""Answers are encrypted for their row, by a key that is retired after they are."""

import pytest

from app_auth.kept_answers import AnswerLost, open_answer, seal_answer
from app_auth.settings import AuthSettings
from app_auth.testing import new_key
from app_db.types import new_id

ANSWER = b'{"key": "gw_secret"}'


def test_an_answer_comes_back_and_is_not_readable_meanwhile(auth_settings: AuthSettings) -> None:
    request_id = new_id()

    sealed, key_id = seal_answer(auth_settings, ANSWER, request_id=request_id)

    assert b"gw_" not in sealed
    assert seal_answer(auth_settings, ANSWER, request_id=request_id)[0] != sealed
    assert open_answer(auth_settings, sealed, request_id=request_id, key_id=key_id) == ANSWER


def test_an_answer_belongs_to_its_row(auth_settings: AuthSettings) -> None:
    request_id = new_id()
    sealed, key_id = seal_answer(auth_settings, ANSWER, request_id=request_id)

    for other, text in ((new_id(), sealed), (request_id, sealed[:-1] + bytes([sealed[-1] ^ 1])), (request_id, b"")):
        with pytest.raises(AnswerLost):
            open_answer(auth_settings, text, request_id=other, key_id=key_id)


def test_a_key_that_was_rotated_still_opens_what_it_has_sealed(auth_settings: AuthSettings) -> None:
    request_id, (old,) = new_id(), auth_settings.token_keys
    sealed, key_id = seal_answer(auth_settings, ANSWER, request_id=request_id)
    both = (old.model_copy(update={"state": "verify"}), new_key("next"))

    rotated = auth_settings.model_copy(update={"token_keys": both})
    retired = auth_settings.model_copy(update={"token_keys": both[1:]})

    assert open_answer(rotated, sealed, request_id=request_id, key_id=key_id) == ANSWER
    with pytest.raises(AnswerLost):
        open_answer(retired, sealed, request_id=request_id, key_id=key_id)
