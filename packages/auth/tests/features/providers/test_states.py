"""States: bound to a browser, a provider, a purpose and a session, and good for ten minutes."""

from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app_auth.features.providers.errors import InvalidState
from app_auth.features.providers.states import LIFE, LONGEST_NEXT, Purpose, Returned, States, new_secret
from app_auth.settings import AuthSettings
from app_auth.testing import new_key
from app_db.types import new_id, utcnow

SECRET, SESSION, NOW = new_secret(), new_id(), utcnow()
BEGUN: dict[str, Any] = {"provider": "acme", "secret": SECRET, "session_id": SESSION, "now": NOW}


@pytest.fixture(scope="module")
def states(auth_settings: AuthSettings) -> States:
    return States(auth_settings)


def test_a_state_brings_back_what_it_was_begun_with(states: States) -> None:
    begun = states.begin("acme", Purpose.LINK, secret=SECRET, session_id=SESSION, now=NOW, next_page="/console/jobs")

    returned = states.read(begun.state, Purpose.LINK, **BEGUN)

    assert (returned.next, returned.nonce) == ("/console/jobs", begun.nonce)
    assert begun.expires_at == NOW + LIFE
    assert len({begun.nonce, returned.verifier, begun.challenge, begun.state.partition(".")[2]}) == 4
    assert len(returned.verifier) == 43  # RFC 7636, 4.1


@pytest.mark.parametrize(
    "other",
    [
        {"provider": "another"},
        {"secret": new_secret()},
        {"secret": ""},
        {"secret": None},
        {"secret": "\ud800"},
        {"session_id": new_id()},
        {"session_id": None},
        {"session_id": UUID(int=0)},
    ],
)
def test_a_state_is_good_for_one_browser_provider_and_session(states: States, other: dict[str, Any]) -> None:
    begun = states.begin("acme", Purpose.LINK, secret=SECRET, session_id=SESSION, now=NOW)

    with pytest.raises(InvalidState):
        states.read(begun.state, Purpose.LINK, **{**BEGUN, **other})


def test_a_state_is_good_for_one_purpose(states: States) -> None:
    begun = states.begin("acme", Purpose.CONFIRM, secret=SECRET, session_id=SESSION, now=NOW)

    assert states.purpose_of(begun.state) is Purpose.CONFIRM
    with pytest.raises(InvalidState):
        states.read(begun.state, Purpose.LINK, **BEGUN)


def test_a_state_is_good_for_ten_minutes(states: States) -> None:
    begun = states.begin("acme", Purpose.LINK, secret=SECRET, session_id=SESSION, now=NOW)
    late = NOW + LIFE

    assert states.read(begun.state, Purpose.LINK, **{**BEGUN, "now": late - timedelta(seconds=2)}).next == ""
    with pytest.raises(InvalidState):
        states.read(begun.state, Purpose.LINK, **{**BEGUN, "now": late})


def test_a_state_of_an_older_key_is_good_and_of_a_foreign_one_is_not(auth_settings: AuthSettings) -> None:
    old, new = new_key("old"), new_key("new")
    of_old = States(auth_settings.model_copy(update={"refresh_keys": (old,)}))
    verifying = old.model_copy(update={"state": "verify"})
    both = States(auth_settings.model_copy(update={"refresh_keys": (new, verifying)}))
    only_new = States(auth_settings.model_copy(update={"refresh_keys": (new,)}))
    begun = of_old.begin("acme", Purpose.LINK, secret=SECRET, session_id=SESSION, now=NOW)

    assert both.read(begun.state, Purpose.LINK, **BEGUN).nonce == begun.nonce
    with pytest.raises(InvalidState):
        only_new.read(begun.state, Purpose.LINK, **BEGUN)


def test_a_long_page_is_left_out(states: States) -> None:
    page = "/console/" + "x" * LONGEST_NEXT
    begun = states.begin("acme", Purpose.LINK, secret=SECRET, session_id=SESSION, now=NOW, next_page=page)

    assert states.read(begun.state, Purpose.LINK, **BEGUN).next == ""


@given(text=st.text(max_size=200) | st.text("Aa0_-.", max_size=200))
def test_no_text_of_a_stranger_is_a_state(text: str, auth_settings: AuthSettings) -> None:
    states = States(auth_settings)
    with pytest.raises(InvalidState):
        states.read(text, Purpose.SIGN_IN, **BEGUN)


@given(place=st.integers(0, 10_000), character=st.sampled_from("Aa0_-"))
def test_no_state_that_was_changed_says_something_else(place: int, character: str, auth_settings: AuthSettings) -> None:
    states = States(auth_settings)
    begun = states.begin("acme", Purpose.LINK, secret=SECRET, session_id=SESSION, now=NOW, next_page="/console")
    where = place % len(begun.state)
    changed = f"{begun.state[:where]}{character}{begun.state[where + 1 :]}"

    returned: Returned | None = None
    try:
        returned = states.read(changed, Purpose.LINK, **BEGUN)
    except InvalidState:
        return
    assert returned == states.read(begun.state, Purpose.LINK, **BEGUN)  # bits of base64 that stand for nothing
