"""`python -m app_api operator grant|revoke EMAIL`."""

import argparse

import pytest
from httpx2 import AsyncClient

from app_api import operator
from app_api.main import main
from app_api.settings import ApiSettings
from app_api.testing import SignedIn


def parsed(*arguments: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    operator.add_commands(parser)
    return parser.parse_args(arguments)


async def test_a_user_is_made_an_operator_and_a_user_again_while_signed_in(
    client: AsyncClient, signed_in: SignedIn, api_settings: ApiSettings
) -> None:
    email, statuses, lines = signed_in.account.email, [], []
    for action in ("grant", "revoke"):
        lines.append(await operator.run(api_settings, parsed(action, email)))
        statuses.append((await client.get("/jobs/queues", headers=signed_in.headers)).status_code)

    assert statuses == [200, 403]
    assert lines == [f"{email} is an operator", f"{email} is no operator"]


@pytest.mark.usefixtures("database")
@pytest.mark.parametrize("action", ["grant", "revoke"])
@pytest.mark.parametrize(
    ("email", "line"), [("nobody@example.test", "No account has this address"), ("nobody", "not an e-mail address")]
)
async def test_an_unknown_address_ends_the_command_with_a_line(
    api_settings: ApiSettings, action: str, email: str, line: str
) -> None:
    with pytest.raises(SystemExit, match=f"^{email}: .*{line}"):
        await operator.run(api_settings, parsed(action, email))


@pytest.mark.parametrize("arguments", [["operator"], ["operator", "grant"], ["operator", "promote", "x"]])
def test_an_operator_command_that_is_none_explains_itself(
    capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    with pytest.raises(SystemExit):
        main(arguments)

    assert "usage: python -m app_api operator" in capsys.readouterr().err
