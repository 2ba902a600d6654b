"""`make shell`: IPython with `await`, the models, and a session on the write engine."""

from datetime import timedelta

from IPython import start_ipython
from pydantic_settings import BaseSettings, SettingsConfigDict
from sqlalchemy import select

from app_db import Database, models
from app_db.settings import DatabaseSettings

BANNER = """
session   a database session: (await session.scalars(select(models.User))).all()
          nothing is kept before `await session.commit()`
"""


class ShellSettings(BaseSettings):
    """The database, and nothing else."""

    model_config = SettingsConfigDict(env_prefix="APP_", env_nested_delimiter="__")

    database: DatabaseSettings


def main() -> None:
    """Open the shell; a person thinks for longer than a request may, so nothing times out."""
    unhurried = {name: timedelta(0) for name in ("idle_in_transaction_timeout", "statement_timeout")}
    settings = ShellSettings().database.model_copy(update={**unhurried, "command_timeout": None})
    names = {"session": Database(settings, name="shell").sessions(), "models": models, "select": select}
    print(BANNER)
    start_ipython(argv=["--no-banner"], user_ns=names)


if __name__ == "__main__":
    main()
