"""`python -m app_api operator …`: actions for a shell on the server, which no client may do over HTTP."""

import argparse
import json
import re
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from getpass import getpass
from itertools import chain
from typing import Any, Final, TextIO
from uuid import UUID

from app_api.settings import ApiSettings
from app_auth import accounts, sessions
from app_auth.addresses import canonical_email
from app_auth.auth import open_auth
from app_auth.errors import AccountNotFound
from app_auth.permissions import set_role
from app_db import Session, open_database
from app_db.errors import AppError
from app_db.models import AuditEvent, Role, User
from app_db.paging import Cursor, Slice
from app_db.repositories.audit import AuditRepository
from app_db.repositories.users import UserRepository
from app_runtime.discovery import find


@dataclass(frozen=True, slots=True)
class Context:
    """The dependencies of a command."""

    settings: ApiSettings
    arguments: argparse.Namespace
    session: Session
    stdin: TextIO


@dataclass(frozen=True, slots=True)
class Answer:
    """The output of a command: `text` for people, `data` as JSON with stable names."""

    text: str
    data: dict[str, Any]  # Any: JSON


type Command = Callable[[Context], Awaitable[Answer]]


def add_commands(parser: argparse.ArgumentParser) -> None:
    """Declare the subcommands."""
    commands = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    for name, (_, text) in all_commands().items():
        command = commands.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.")
        command.add_argument("--json", action="store_true", help="print JSON")
        if name in {"list", "audit"}:
            command.add_argument("--limit", type=_limit, default=50, help="lines; 50 if absent, at most 1000")
            command.add_argument("--after", type=_cursor, metavar="CURSOR", help="the `next` of the last page")
        if name == "list":
            command.add_argument("--undeliverable", action="store_true", help="only those that no mail reaches")
        if name == "create":
            command.add_argument("--operator", action="store_true", help="make it an operator")
        if name == "audit":
            about = "whose; or the id of an account, also one that is gone; everybody's if absent"
            command.add_argument("email", metavar="EMAIL", nargs="?", help=about)
        elif name != "list":
            command.add_argument("email", metavar="EMAIL", help="the address of the account")


async def run(settings: ApiSettings, arguments: argparse.Namespace, *, stdin: TextIO | None = None) -> str:
    """Run the command and return the text to print. It needs only the database. May be repeated.

    Raises:
        SystemExit: with a line that says why nothing was changed.
    """
    command, _ = all_commands()[arguments.action]
    about = getattr(arguments, "email", None)
    try:
        async with _session(settings) as session:
            answer = await command(Context(settings, arguments, session, stdin or sys.stdin))
    except AppError as error:
        raise SystemExit(f"{about}: {error.reason()}" if about else error.reason()) from error
    return json.dumps(answer.data, default=_plain, ensure_ascii=False) if arguments.json else answer.text


@asynccontextmanager
async def _session(settings: ApiSettings) -> AsyncIterator[Session]:
    async with open_database(settings.database, name="operator") as database, database.unit_of_work() as session:
        yield session


async def _create(context: Context) -> Answer:
    email, role = context.arguments.email, Role.OPERATOR if context.arguments.operator else Role.USER
    password = read_password(context.stdin)
    with open_auth(context.settings.auth) as auth:
        user = await accounts.create(auth, context.session, email=email, password=password, role=role)
    return Answer(f"{email} ({role}) is created", {"email": email, "user_id": user.id, "role": role})


async def _give_role(context: Context, role: Role) -> Answer:
    email = context.arguments.email
    await set_role(context.session, email=email, role=role)
    called = "an operator" if role is Role.OPERATOR else "no operator"
    return Answer(f"{email} is {called}", {"email": email, "role": role})


async def _grant(context: Context) -> Answer:
    return await _give_role(context, Role.OPERATOR)


async def _revoke(context: Context) -> Answer:
    return await _give_role(context, Role.USER)


async def _disable(context: Context) -> Answer:
    email = context.arguments.email
    await accounts.disable(context.session, email=email)
    return Answer(f"{email} is disabled and signed out", {"email": email, "disabled": True})


async def _enable(context: Context) -> Answer:
    email = context.arguments.email
    await accounts.enable(context.session, email=email)
    return Answer(f"{email} is enabled", {"email": email, "disabled": False})


async def _sign_out(context: Context) -> Answer:
    email = context.arguments.email
    ended = await sessions.sign_out_everywhere(context.session, email=email)
    return Answer(f"{email} is signed out of {ended} sessions", {"email": email, "sessions": ended})


async def _list(context: Context) -> Answer:
    arguments = context.arguments
    page = await UserRepository(context.session).page(
        after=arguments.after, limit=arguments.limit, undeliverable=arguments.undeliverable
    )
    return _page(page, map(_account, page.items))


async def _audit(context: Context) -> Answer:
    arguments, audit = context.arguments, AuditRepository(context.session)
    if arguments.email is None:
        page = await audit.recent(after=arguments.after, limit=arguments.limit)
    else:
        user_id = await _id_of(context.session, arguments.email)
        page = await audit.of_user(user_id, after=arguments.after, limit=arguments.limit)
    return _page(page, map(_event, page.items))


COMMANDS: Final[dict[str, tuple[Command, str]]] = {
    "create": (_create, "create an account; asks for its password, or reads a line of standard input"),
    "list": (_list, "list accounts, newest first"),
    "grant": (_grant, "make the account an operator, from its next request on"),
    "revoke": (_revoke, "make the operator a user like any other, from the next request on"),
    "disable": (_disable, "let nobody into the account, and sign it out everywhere"),
    "enable": (_enable, "let the owner of a disabled account in again"),
    "sign-out": (_sign_out, "end all sessions of the account, from the next request on"),
    "audit": (_audit, "list what happened to an account, newest first"),
}


def all_commands() -> dict[str, tuple[Command, str]]:
    """Return these commands and those of features: `COMMANDS` in their `operator_commands.py`."""
    found = [each.module.COMMANDS.items() for each in find("app_api.features", "operator_commands")]
    return COMMANDS | dict(chain.from_iterable(found))


def _limit(text: str) -> int:
    if not re.fullmatch(r"[1-9][0-9]{0,2}|1000", text):
        raise argparse.ArgumentTypeError("must be 1 to 1000")
    return int(text)


def _cursor(text: str) -> Cursor:
    try:
        return Cursor.parse(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def read_password(stdin: TextIO) -> str:
    """Ask for a new password twice, without showing it; if `stdin` is no terminal, read one line.

    Raises:
        SystemExit: when the two differ.
    """
    if not stdin.isatty():
        return stdin.readline().rstrip("\r\n")
    password = getpass("Password: ")
    if getpass("Once more: ") != password:
        raise SystemExit("these are two passwords: nothing was created")
    return password


async def _id_of(session: Session, who: str) -> UUID:
    try:
        return UUID(who)
    except ValueError:
        user_id = await UserRepository(session).find_id(canonical_email(who))
    if user_id is None:
        raise AccountNotFound
    return user_id


def _account(user: User) -> dict[str, Any]:  # Any: JSON
    return {
        "created_at": user.created_at,
        "user_id": user.id,
        "email": user.email,
        "role": user.role,
        "verified": user.email_verified_at is not None,
        "disabled": user.disabled_at is not None,
        "undeliverable": user.undeliverable_because,
    }


def _event(row: AuditEvent) -> dict[str, Any]:  # Any: JSON
    return {
        "happened_at": row.happened_at,
        "event": row.event,
        "user_id": row.user_id,
        "actor_id": row.actor_id,
        "session_id": row.session_id,
        "client_address": row.client_address,
        "request_id": row.request_id,
        "details": row.details,
    }


def _page[T](page: Slice[T], rows: Iterable[dict[str, Any]]) -> Answer:  # Any: JSON
    items = list(rows)
    lines = [_line(item) for item in items] or ["none"]
    more = [f"more: --after {page.next}"] if page.next else []
    return Answer("\n".join([*lines, *more]), {"items": items, "next": page.next})


def _plain(value: object) -> str:
    return value.isoformat() if isinstance(value, datetime) else str(value)


def _line(row: dict[str, Any]) -> str:  # Any: JSON
    """Return a row as text: its time, then name=value."""
    (_, when), *others = row.items()
    details = {name: value for name, value in others if name != "details"} | row.get("details", {})
    known = [f"{name}={value}" for name, value in details.items() if value is not None and value is not False]
    return "  ".join([f"{when:%Y-%m-%d %H:%M:%S}", *known])
