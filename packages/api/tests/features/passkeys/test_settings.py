"""`APP_PASSKEYS__…`, checked at the start."""

import json

import pytest
from pydantic import AnyHttpUrl

from app_api.features.passkeys.settings import PasskeySettings
from app_api.settings import ApiSettings
from app_api.testing import SignedIn, assert_problem, open_client
from app_runtime.configuration import Misconfigured, load
from app_runtime.fragments import with_fragments
from packages.api.tests.conftest import app_of
from packages.api.tests.test_settings import LEAST

ALL = with_fragments(ApiSettings, "app_api.features")


@pytest.mark.parametrize(
    ("given", "line"),
    [
        ({"RP_ID": "example.com"}, "APP_PASSKEYS__RP_ID: needs APP_PASSKEYS__ORIGINS"),
        ({"ORIGINS": '["http://app.example.com"]'}, "APP_PASSKEYS__ORIGINS or APP_PASSKEYS__RP_ID: must be https"),
        ({"ORIGINS": '["https://192.0.2.1"]'}, "APP_PASSKEYS__ORIGINS or APP_PASSKEYS__RP_ID: must be a domain"),
        (
            {"ORIGINS": '["https://app.example.com"]', "RP_ID": "example.org"},
            "APP_PASSKEYS__ORIGINS or APP_PASSKEYS__RP_ID: must be on the domain of the passkeys, or below it",
        ),
        ({"ORIGINS": '["https://app.example.com/x"]'}, "APP_PASSKEYS__ORIGINS: "),
        ({"PER_ACCOUNT": "0"}, "APP_PASSKEYS__PER_ACCOUNT: "),
    ],
)
def test_the_application_does_not_start_with_passkeys_that_no_browser_would_make(
    given: dict[str, str], line: str
) -> None:
    with pytest.raises(Misconfigured) as refused:
        load(ALL, {**LEAST, **{f"APP_PASSKEYS__{name}": value for name, value in given.items()}}, elsewhere=["APP_"])

    assert any(line in each for each in refused.value.lines), refused.value.lines


def test_origins_and_domain_come_from_the_settings() -> None:
    settings = PasskeySettings.model_validate(
        {"origins": json.loads('["https://app.example.com", "https://example.com"]'), "rp_id": "example.com"}
    )

    party = settings.party(AnyHttpUrl("https://elsewhere.example"))

    assert party is not None
    assert (party.id, party.origins) == ("example.com", ("https://app.example.com", "https://example.com"))


async def test_without_an_address_that_browsers_trust_there_are_no_passkeys(
    api_settings: ApiSettings, signed_in: SignedIn
) -> None:
    in_the_clear = api_settings.model_copy(update={"public_base_url": AnyHttpUrl("http://app.example.com")})

    async with open_client(app_of(in_the_clear)) as client:
        asked = await client.post("/auth/passkeys/options", headers=signed_in.headers)
        signing_in = await client.post("/auth/passkeys/sign-in/options")
        listed = await client.get("/auth/passkeys", headers=signed_in.headers)

    assert_problem(asked, 404, "passkeys_unavailable")
    assert_problem(signing_in, 404, "passkeys_unavailable")
    assert listed.status_code == 200
