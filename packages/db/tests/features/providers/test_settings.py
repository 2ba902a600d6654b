"""Providers in the settings: https, each once, and no secret in any message."""

import json
from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from app_db.features.providers.settings import ProviderSettings
from app_runtime.configuration import Misconfigured, in_effect, load

ACME: dict[str, Any] = {
    "name": "acme",
    "issuer": "https://login.acme.example/",
    "client_id": "groundwork",
    "client_secret": "hush",
}


class Settings(BaseModel, frozen=True, hide_input_in_errors=True):
    providers: ProviderSettings = ProviderSettings()


def test_providers_are_read_from_one_variable() -> None:
    settings = load(Settings, {"APP_AUTH__PROVIDERS": json.dumps([ACME])}).providers

    [provider] = settings.openid
    assert (provider.issuer, provider.label, provider.scopes) == (ACME["issuer"], "Acme", ("email",))
    assert settings.client_callback_of(provider) is None


def test_a_front_end_has_an_address_for_each_provider() -> None:
    settings = ProviderSettings.model_validate(
        {"openid": [ACME | {"title": "The Acme"}], "client_callback": "https://app.example/in/{name}"}
    )

    assert settings.openid[0].label == "The Acme"
    assert settings.client_callback_of(settings.openid[0]) == "https://app.example/in/acme"


def test_what_is_shown_of_providers_has_no_secret() -> None:
    settings = load(Settings, {"APP_AUTH__PROVIDERS": json.dumps([ACME])})

    shown = {each.name: each.text for each in in_effect(settings, {})}

    assert "login.acme.example" in shown["APP_AUTH__PROVIDERS"]
    assert "hush" not in repr((shown, settings))


@pytest.mark.parametrize(
    "issuer", ["http://localhost:9000", "http://127.0.0.1:9000/a", "http://[::1]:1", "https://a.b/c"]
)
def test_a_provider_is_asked_by_https_or_on_this_machine(issuer: str) -> None:
    [provider] = ProviderSettings.model_validate({"openid": [ACME | {"issuer": issuer}]}).openid

    assert provider.issuer == issuer


@pytest.mark.parametrize(
    "wrong",
    [
        {"issuer": "http://login.acme.example"},
        {"issuer": "http://192.0.2.1"},
        {"issuer": "https://user:hush@login.acme.example"},
        {"issuer": "https://login.acme.example?tenant=hush"},
        {"issuer": "https://login.acme.example?"},
        {"issuer": "https://login.acme.example#hush"},
        {"issuer": "https://"},
        {"issuer": "ldap://login.acme.example"},
        {"name": "Acme"},
        {"name": "a/b"},
        {"name": ""},
        {"client_id": ""},
        {"scopes": ["two words"]},
        {"secret": "hush"},
    ],
)
def test_a_provider_that_is_wrong_stops_the_start_and_shows_no_secret(wrong: dict[str, Any]) -> None:
    with pytest.raises(Misconfigured) as caught:
        load(Settings, {"APP_AUTH__PROVIDERS": json.dumps([ACME | wrong])})

    assert "APP_AUTH__PROVIDERS: 0" in str(caught.value)
    assert "hush" not in str(caught.value)


@pytest.mark.parametrize("second", [{"issuer": "https://b.example"}, {"name": "b"}])
def test_no_two_providers_have_one_name_or_one_issuer(second: dict[str, str]) -> None:
    with pytest.raises(ValidationError, match="two providers have the same"):
        ProviderSettings.model_validate({"openid": [ACME, ACME | second]})


@pytest.mark.parametrize(
    "callback", ["https://app.example/in", "http://app.example/{name}", "https://app.example/?a={name}"]
)
def test_a_front_end_that_could_mix_up_providers_is_refused(callback: str) -> None:
    with pytest.raises(ValidationError):
        ProviderSettings(client_callback=callback)
