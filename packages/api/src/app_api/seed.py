"""A first operator and sample data, for development."""

import secrets

from app_api.settings import ApiSettings
from app_auth import accounts
from app_auth.auth import Auth, open_auth
from app_auth.errors import EmailTaken
from app_db import Database, open_database
from app_db.models import Role
from app_runtime.configuration import Environment

OPERATOR = "operator@example.com"
SAMPLES = ("ada@example.com", "grace@example.com", "linus@example.com")


async def seed(settings: ApiSettings) -> list[str]:
    """Create the accounts that are missing, each with its welcome mail, and return a line to print for each.

    Raises:
        SystemExit: outside of development, where anybody could use such accounts.
    """
    if settings.env is not Environment.DEVELOPMENT:
        raise SystemExit("seed makes accounts with printed passwords: it runs with APP_ENV=development only")
    with open_auth(settings.auth) as auth:
        async with open_database(settings.database, name="seed") as database:
            roles = {OPERATOR: Role.OPERATOR} | dict.fromkeys(SAMPLES, Role.USER)
            return [await _create(auth, database, email, role) for email, role in roles.items()]


async def _create(auth: Auth, database: Database, email: str, role: Role) -> str:
    password = secrets.token_urlsafe(12)
    try:
        async with database.unit_of_work() as session:
            await accounts.create(auth, session, email=email, password=password, role=role)
    except EmailTaken:
        return f"{email} is there already"
    return f"{email} ({role}) with the password {password}"
