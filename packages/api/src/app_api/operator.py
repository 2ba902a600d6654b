"""`python -m app_api operator …`: what is done from a shell on the server, because nobody may do it over HTTP."""

import argparse

from app_api.settings import ApiSettings
from app_auth.permissions import set_role
from app_db import script_session
from app_db.errors import AppError
from app_db.models import Role

_ROLES = {"grant": Role.OPERATOR, "revoke": Role.USER}


def add_commands(parser: argparse.ArgumentParser) -> None:
    """Declare the subcommands."""
    commands = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    grant = commands.add_parser("grant", help="make the account an operator, from its next request on")
    revoke = commands.add_parser("revoke", help="make the operator a user like any other, from the next request on")
    for command in (grant, revoke):
        command.add_argument("email", metavar="EMAIL", help="the address that the account was registered with")


async def run(settings: ApiSettings, arguments: argparse.Namespace) -> str:
    """Carry it out and return the line to print. It needs the database and nothing else; may be repeated.

    Raises:
        SystemExit: with a line that says why nothing was changed.
    """
    role = _ROLES[arguments.action]
    try:
        async with script_session(settings.database) as session:
            await set_role(session, email=arguments.email, role=role)
    except AppError as error:
        raise SystemExit(f"{arguments.email}: {error.describe()}") from error
    return f"{arguments.email} is {'an operator' if role is Role.OPERATOR else 'no operator'}"
