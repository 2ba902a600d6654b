"""What a shell on the server does about one-time codes: keys, and accounts whose owners have lost theirs."""

import argparse
import json
from pathlib import Path

import pytest
from httpx2 import AsyncClient

from app_api import config, operator
from app_api.settings import ApiSettings
from app_auth.keys import RINGS
from app_runtime.configuration import Misconfigured

from .conftest import Guarded, sign_in_with_password


def run(*arguments: object) -> list[str]:
    parser = argparse.ArgumentParser()
    config.add_commands(parser)
    return [*config.run(parser.parse_args([str(argument) for argument in arguments]), {})]


def ring_in(path: Path) -> list[dict[str, str]]:
    [line] = [line for line in path.read_text().splitlines() if line.startswith("APP_TOTP__KEYS=")]
    ring: list[dict[str, str]] = json.loads(line.partition("=")[2].strip("'"))
    return ring


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """A file of secrets from before there were one-time codes."""
    path = tmp_path / "secrets.env"
    run("init", path)
    path.write_text("".join(f"{line}\n" for line in path.read_text().splitlines() if "TOTP" not in line))
    return path


def test_a_new_file_of_secrets_has_the_ring(tmp_path: Path) -> None:
    run("init", tmp_path / "new.env")

    assert [key["state"] for key in ring_in(tmp_path / "new.env")] == ["active"]


@pytest.mark.parametrize("option", [[], ["--add"]])
def test_a_file_from_before_gets_the_ring(old: Path, option: list[str]) -> None:
    [line] = run("rotate", "totp_keys", "--file", old, *option)

    assert line == f"APP_TOTP__KEYS: is new. Restart what reads {old}."
    assert [key["state"] for key in ring_in(old)] == ["active"]
    assert sum(line.startswith("APP_AUTH__") for line in old.read_text().splitlines()) == len(RINGS)


def test_without_a_file_a_new_ring_is_printed() -> None:
    [line] = run("rotate", "totp_keys")

    assert line.startswith("APP_TOTP__KEYS='[{")


def test_a_ring_that_is_not_there_loses_no_key(old: Path) -> None:
    with pytest.raises(Misconfigured, match="APP_TOTP__KEYS: is not set"):
        run("rotate", "totp_keys", "--file", old, "--retire", "1")


def test_the_ring_is_rotated_and_its_old_key_retired(tmp_path: Path) -> None:
    path = tmp_path / "secrets.env"
    run("init", path)
    [before] = ring_in(path)

    _, then = run("rotate", "totp_keys", "--file", path)

    assert [key["state"] for key in ring_in(path)] == ["verify", "active"]
    run(*then.partition("config ")[2].split())
    assert before["kid"] not in [key["kid"] for key in ring_in(path)]


async def test_an_operator_takes_the_second_factor_away(
    client: AsyncClient, eve: Guarded, api_settings: ApiSettings
) -> None:
    parser = argparse.ArgumentParser()
    operator.add_commands(parser)
    command = parser.parse_args(["remove-second-factor", eve.account.email])

    said = [await operator.run(api_settings, command) for _ in range(2)]

    assert said == [
        f"{eve.account.email} has no second factor any more, and is signed out",
        f"{eve.account.email} has no second factor",
    ]
    assert (await sign_in_with_password(client, eve.account)).status_code == 200
