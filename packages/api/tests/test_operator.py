"""`python -m app_api operator …`."""

import argparse
import io
import json
import os
import subprocess
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from httpx2 import AsyncClient

from app_api import operator as command_line
from app_api.main import main
from app_api.settings import ApiSettings
from app_api.testing import SignedIn
from app_auth.testing import PASSWORD
from app_db import Database
from app_db.models import Role, User
from app_db.repositories.users import UserRepository
from app_db.settings import DatabaseSettings

ADA = "ada@example.test"
ON_ONE = ["grant", "revoke", "disable", "enable", "sign-out", "audit"]
ASK = "import sys; from app_api.operator import read_password; print(read_password(sys.stdin))"

type Operate = Callable[..., Awaitable[str]]


def parsed(*arguments: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    command_line.add_commands(parser)
    return parser.parse_args(arguments)


@pytest.fixture
def operate(api_settings: ApiSettings, database: Database) -> Operate:
    """Return a function that runs one command, with a password on its standard input."""

    async def operate(*arguments: str, password: str = PASSWORD) -> str:
        return await command_line.run(api_settings, parsed(*arguments), stdin=io.StringIO(f"{password}\n"))

    return operate


async def as_json(operate: Operate, *arguments: str) -> dict[str, Any]:  # Any: JSON
    document: dict[str, Any] = json.loads(await operate(*arguments, "--json"))
    return document


async def test_a_user_is_made_an_operator_and_a_user_again_while_signed_in(
    client: AsyncClient, signed_in: SignedIn, operate: Operate
) -> None:
    email, statuses, lines = signed_in.account.email, [], []
    for action in ("grant", "revoke"):
        lines.append(await operate(action, email))
        statuses.append((await client.get("/jobs/queues", headers=signed_in.headers)).status_code)

    assert statuses == [200, 403]
    assert lines == [f"{email} is an operator", f"{email} is no operator"]


@pytest.mark.parametrize(("flags", "role"), [([], Role.USER), (["--operator"], Role.OPERATOR)])
async def test_an_account_that_was_created_from_a_shell_can_sign_in(
    client: AsyncClient, database: Database, operate: Operate, flags: list[str], role: Role
) -> None:
    created = await as_json(operate, "create", ADA, *flags)

    assert (created["email"], created["role"]) == (ADA, role)
    login = await client.post("/auth/access-token", data={"username": ADA, "password": PASSWORD})
    assert login.status_code == 200
    async with database.unit_of_work() as session:
        user = await session.get_one(User, created["user_id"])
    assert (user.role, user.email_verified_at is None) == (role, False)


async def test_creating_an_account_says_so_in_a_line(operate: Operate) -> None:
    assert await operate("create", ADA) == f"{ADA} (user) is created"


@pytest.mark.parametrize("password", ["", "short"])
async def test_a_password_that_registering_would_refuse_is_refused_from_a_shell_too(
    operate: Operate, password: str
) -> None:
    with pytest.raises(SystemExit, match=f"^{ADA}: The password is too short"):
        await operate("create", ADA, password=password)

    assert await operate("list") == "none"


@pytest.mark.measured
@pytest.mark.parametrize("typed", [("one and the same", "one and the same"), ("one", "another")])
def test_a_password_is_asked_for_twice_and_not_shown(typed: tuple[str, str]) -> None:
    leader, follower = os.openpty()
    asking = subprocess.Popen(
        [sys.executable, "-c", ASK],
        stdin=follower,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    with asking, os.fdopen(leader, "wb", buffering=0) as keyboard:
        os.close(follower)
        assert asking.stderr is not None
        for prompt, line in zip((b"Password: ", b"Once more: "), typed, strict=True):
            shown = b""
            while not shown.endswith(prompt):
                byte = asking.stderr.read(1)
                assert byte, shown
                shown += byte
            keyboard.write(f"{line}\n".encode())
        printed, complaint = asking.communicate(timeout=30)

    if typed[0] == typed[1]:
        assert (asking.returncode, printed) == (0, b"one and the same\n")
    else:
        assert (asking.returncode, printed) == (1, b"")
        assert b"two passwords" in complaint


async def test_a_disabled_account_is_out_at_once_and_let_in_again(
    client: AsyncClient, signed_in: SignedIn, operate: Operate
) -> None:
    email, form = signed_in.account.email, {"username": signed_in.account.email, "password": PASSWORD}

    disabled = await operate("disable", email)
    me = await client.get("/auth/me", headers=signed_in.headers)
    refused = await client.post("/auth/access-token", data=form)
    enabled = await operate("enable", email)
    let_in = await client.post("/auth/access-token", data=form)

    assert [disabled, enabled] == [f"{email} is disabled and signed out", f"{email} is enabled"]
    assert [me.status_code, refused.status_code, let_in.status_code] == [401, 400, 200]


async def test_signing_an_account_out_ends_its_sessions(
    client: AsyncClient, signed_in: SignedIn, operator: SignedIn, operate: Operate
) -> None:
    line = await operate("sign-out", signed_in.account.email)

    assert line == f"{signed_in.account.email} is signed out of 1 sessions"
    statuses = [(await client.get("/auth/me", headers=who.headers)).status_code for who in (signed_in, operator)]
    assert statuses == [401, 200]


async def test_accounts_are_listed_in_pages(signed_in: SignedIn, operator: SignedIn, operate: Operate) -> None:
    first = await as_json(operate, "list", "--limit", "1")
    second = await as_json(operate, "list", "--limit", "1", "--after", first["next"])

    emails = [item["email"] for page in (first, second) for item in page["items"]]
    assert sorted(emails) == sorted([signed_in.account.email, operator.account.email])
    assert second["next"] is None


async def test_a_listed_account_is_a_line_and_the_next_page_is_below(
    signed_in: SignedIn, operator: SignedIn, operate: Operate
) -> None:
    await operate("disable", operator.account.email)

    account, more = (await operate("list", "--limit", "1")).splitlines()

    assert account.endswith(f"email={operator.account.email}  role=operator  verified=True  disabled=True")
    assert more.startswith("more: --after ")


async def test_accounts_that_no_mail_reaches_are_listed(
    signed_in: SignedIn, operator: SignedIn, operate: Operate, database: Database
) -> None:
    async with database.unit_of_work() as session:
        user = await session.get_one(User, operator.account.id)
        await UserRepository(session).note_undeliverable(user.id, email=user.email_canonical, because="RCPT: 550 5.1.1")

    listed = await as_json(operate, "list", "--undeliverable")

    assert [(item["email"], item["undeliverable"]) for item in listed["items"]] == [
        (operator.account.email, "RCPT: 550 5.1.1")
    ]
    assert "undeliverable=RCPT: 550 5.1.1" in await operate("list", "--undeliverable")


async def test_the_audit_of_an_account_tells_what_was_done_from_the_shell(
    signed_in: SignedIn, operator: SignedIn, operate: Operate
) -> None:
    email = signed_in.account.email
    for action in ("grant", "sign-out", "disable", "enable"):
        await operate(action, email)

    items = (await as_json(operate, "audit", email))["items"]

    assert [(item["event"], item["details"]) for item in items] == [
        ("account_enabled", {"by": "shell"}),
        ("account_disabled", {"by": "shell", "sessions": 0}),
        ("sessions_revoked", {"by": "shell", "because": "operator", "count": 1}),
        ("role_changed", {"by": "shell", "role": "operator"}),
        ("signed_in", {"how": "password"}),
        ("registered", {"by": "shell", "role": "user"}),
    ]


async def test_the_audit_is_a_line_for_each_event(signed_in: SignedIn, operate: Operate) -> None:
    newest, *_ = (await operate("audit", signed_in.account.email)).splitlines()

    assert f"event=signed_in  user_id={signed_in.account.id}  session_id=" in newest


async def test_the_audit_of_an_account_that_is_gone_is_read_by_its_id(
    client: AsyncClient, signed_in: SignedIn, operate: Operate
) -> None:
    await client.delete("/auth/me", headers=signed_in.headers)

    items = (await as_json(operate, "audit", str(signed_in.account.id)))["items"]

    assert [item["event"] for item in items] == ["account_deleted", "signed_in", "registered"]


async def test_the_audit_of_everybody_is_read_without_an_address(
    signed_in: SignedIn, operator: SignedIn, operate: Operate
) -> None:
    items = (await as_json(operate, "audit", "--limit", "1000"))["items"]

    assert {item["user_id"] for item in items} == {str(who.account.id) for who in (signed_in, operator)}


@pytest.mark.parametrize("action", ON_ONE)
@pytest.mark.parametrize(
    ("email", "line"), [("nobody@example.test", "No account has this address"), ("nobody", "not an e-mail address")]
)
async def test_an_unknown_address_ends_the_command_with_a_line(
    operate: Operate, action: str, email: str, line: str
) -> None:
    with pytest.raises(SystemExit, match=f"^{email}: .*{line}"):
        await operate(action, email)


async def test_a_command_without_a_database_ends_with_a_line(api_settings: ApiSettings) -> None:
    nowhere = DatabaseSettings.model_validate({"url": "postgresql://nobody:nothing@127.0.0.1:1/nowhere"})

    with pytest.raises(SystemExit, match=r"^[A-Z].*\.$"):
        await command_line.run(api_settings.model_copy(update={"database": nowhere}), parsed("list"))


@pytest.mark.parametrize(
    "arguments",
    [
        ["operator"],
        ["operator", "grant"],
        ["operator", "promote", "x"],
        ["operator", "list", "--limit", "0"],
        ["operator", "list", "--limit", "1001"],
        ["operator", "audit", "--after", "x"],
    ],
)
def test_an_operator_command_that_is_none_explains_itself(
    capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    with pytest.raises(SystemExit):
        main(arguments)

    assert "usage: python -m app_api operator" in capsys.readouterr().err
