"""`python -m app_api database roles`: an administrator of the database runs it once, and may repeat it."""

import argparse
from collections.abc import Iterable, Mapping
from pathlib import Path

from pydantic import BaseModel, SecretStr

from app_api.config import migrator_file
from app_db.roles import Roles, make_roles, roles_sql, user_of
from app_db.settings import DatabaseSettings
from app_runtime.configuration import PREFIX, Misconfigured, lines_of, load


class AdministratorSettings(BaseModel, frozen=True):
    """The settings of the database only."""

    database: DatabaseSettings


def add_commands(parser: argparse.ArgumentParser) -> None:
    """Declare the subcommands."""
    commands = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    roles = commands.add_parser(
        "roles",
        help="create the roles that migrate, run and read",
        description="Creates or corrects the roles, as the administrator of the database in APP_DATABASE__URL.",
    )
    roles.add_argument(
        "--print", action="store_true", help="print the SQL, which holds no password, and change nothing"
    )
    roles.add_argument(
        "--secrets", metavar="FILE", type=Path, help="what `config init` wrote: whose names and passwords"
    )
    for name in ("migrator", "app", "readonly"):
        roles.add_argument(f"--{name}", metavar="NAME", help=f"another name for {name}")
    roles.add_argument("--connection-limit", metavar="N", type=int, default=100, help="of app; 100 if absent")


async def run(parsed: argparse.Namespace, environ: Mapping[str, str]) -> Iterable[str]:
    """Run the subcommand and return the lines to print. May be repeated, before and after migrations.

    Raises:
        Misconfigured: with lines that say what is wrong; then nothing was changed.
    """
    names = {name: getattr(parsed, name) for name in ("migrator", "app", "readonly") if getattr(parsed, name)}
    passwords = {}
    if parsed.secrets:
        for name, path in (("app", parsed.secrets), ("migrator", migrator_file(parsed.secrets))):
            user, password = _user_in(path)
            names.setdefault(name, user)
            passwords[names[name]] = password
    roles = Roles(**names, connection_limit=parsed.connection_limit)
    script = roles_sql(roles, passwords=passwords)
    if parsed.print:
        return [script.rstrip()]
    administrator = load(AdministratorSettings, environ, elsewhere=[PREFIX])
    await make_roles(administrator.database, script)
    return [f"{roles.migrator} migrates, {roles.app} runs the applications, members of {roles.readonly} read"]


def _user_in(path: Path) -> tuple[str, SecretStr]:
    try:
        url = lines_of(path.read_text())["APP_DATABASE__URL"]
    except (OSError, KeyError):
        raise Misconfigured(f"{path}: has no APP_DATABASE__URL; `config init --database URL` writes it") from None
    return user_of(url)
