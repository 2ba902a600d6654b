"""Keys and lifetimes that are refused before a process starts, and the text of the refusals."""

import base64
import secrets
from datetime import timedelta

import pytest
from pydantic import ValidationError

from app_auth.settings import AuthSettings, Key, active
from app_auth.testing import new_key


def random_secret() -> str:
    return base64.b64encode(secrets.token_bytes(32)).decode()


def changed(settings: AuthSettings, **changes: object) -> AuthSettings:
    return AuthSettings.model_validate(dict(iter(settings)) | changes)


def test_a_key_holds_the_bytes_that_its_base64_stands_for() -> None:
    key = Key.model_validate({"kid": "2026-11", "secret": base64.b64encode(b"k" * 32).decode()})

    assert key.key_bytes == b"k" * 32


@pytest.mark.parametrize(
    "secret",
    ["not base64 at all, however long it may be", "clé" * 20, "A" * 43, base64.b64encode(b"k" * 31).decode(), ""],
    ids=["not-base64", "not-ascii", "no-padding", "31-bytes", "empty"],
)
def test_a_key_that_is_short_or_not_base64_is_refused_with_the_command_that_makes_one(secret: str) -> None:
    with pytest.raises(ValidationError, match="openssl rand -base64 32"):
        Key.model_validate({"kid": "1", "secret": secret})


@pytest.mark.parametrize("kid", ["", "a b", "a$b", "../../etc/passwd", "k" * 65, "a\n"])
def test_a_kid_is_a_short_plain_name(kid: str) -> None:
    with pytest.raises(ValidationError, match="kid"):
        Key.model_validate({"kid": kid, "secret": random_secret()})


def test_an_algorithm_that_we_do_not_sign_with_is_refused() -> None:
    with pytest.raises(ValidationError, match="alg"):
        Key.model_validate({"kid": "1", "alg": "none", "secret": random_secret()})


@pytest.mark.parametrize("ring", ["keys", "refresh_keys", "peppers"])
def test_two_keys_of_one_kid_are_refused(auth_settings: AuthSettings, ring: str) -> None:
    keys = [new_key("1"), new_key("1", state="verify")]

    with pytest.raises(ValidationError, match=rf"{ring}\n.*two keys have the same kid"):
        changed(auth_settings, **{ring: keys})


@pytest.mark.parametrize("states", [[], ["verify"], ["active", "active"]])
def test_a_ring_has_exactly_one_active_key(auth_settings: AuthSettings, states: list[str]) -> None:
    keys = [{"kid": str(number), "secret": random_secret(), "state": state} for number, state in enumerate(states)]

    with pytest.raises(ValidationError, match='exactly one key must have the state "active"'):
        changed(auth_settings, keys=keys)


def test_the_active_key_signs_wherever_it_stands_in_the_ring() -> None:
    ring = (new_key("old", state="verify"), new_key("new"), new_key("older", state="verify"))

    assert active(ring).kid == "new"


@pytest.mark.parametrize("ring", ["keys", "refresh_keys", "peppers"])
def test_every_ring_is_required(auth_settings: AuthSettings, ring: str) -> None:
    values = {name: value for name, value in auth_settings if name != ring}

    with pytest.raises(ValidationError, match="Field required"):
        AuthSettings.model_validate(values)


@pytest.mark.parametrize(
    "keys",
    [
        [{"kid": "1", "secret": "hunter2-hunter2"}],
        [{"kid": "1", "secret": "aHVudGVyMg=="}],
        [{"kid": "a b", "secret": "hunter2-" * 8}],
        [{"kid": "1", "secret": "hunter2-" * 8, "state": "verify"}],
        [{"kid": "1", "secret": "hunter2/" * 8}, {"kid": "1", "secret": "hunter2/" * 8}],
        "hunter2",
    ],
)
def test_no_message_contains_a_secret(auth_settings: AuthSettings, keys: object) -> None:
    with pytest.raises(ValidationError) as caught:
        changed(auth_settings, keys=keys)

    assert "hunter2" not in str(caught.value)
    assert "aHVudGVyMg" not in str(caught.value)


def test_the_message_about_a_single_key_does_not_contain_it() -> None:
    with pytest.raises(ValidationError) as caught:
        Key.model_validate({"kid": "1", "secret": "hunter2-hunter2"})

    assert "hunter2" not in str(caught.value)


def test_settings_do_not_show_their_keys(auth_settings: AuthSettings) -> None:
    shown = f"{auth_settings!r} {auth_settings} {auth_settings.model_dump_json()}"

    assert auth_settings.keys[0].secret.get_secret_value() not in shown


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("access_ttl", timedelta(seconds=59)),
        ("access_ttl", timedelta(seconds=3601)),
        ("refresh_idle", timedelta(0)),
        ("refresh_absolute", timedelta(0)),
        ("refresh_grace", timedelta(seconds=61)),
        ("fresh_sign_in", timedelta(seconds=3601)),
        ("password_min_length", 7),
        ("bcrypt_rounds", 15),
        ("hash_queue", 0),
        ("hash_wait", timedelta(0)),
    ],
)
def test_a_value_that_would_weaken_a_promise_is_refused(auth_settings: AuthSettings, name: str, value: object) -> None:
    with pytest.raises(ValidationError, match=name):
        changed(auth_settings, **{name: value})
