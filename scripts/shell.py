"""`make shell`: IPython with `await`, the models, and a session on the write engine."""

import os
from datetime import timedelta

from IPython import start_ipython
from pydantic import BaseModel
from sqlalchemy import select

from app_db import Database, models
from app_db.settings import DatabaseSettings
from app_runtime.configuration import PREFIX, load

BANNER = """
session   a database session: (await session.scalars(select(models.User))).all()
          nothing is kept before `await session.commit()`
"""


class ShellSettings(BaseModel):
    """The database, and nothing else."""

    database: DatabaseSettings


def main() -> None:
    """Open the shell; a person thinks for longer than a request may, so nothing times out."""
    unhurried = {name: timedelta(0) for name in ("idle_in_transaction_timeout", "statement_timeout")}
    settings = load(ShellSettings, os.environ, elsewhere=[PREFIX]).database
    settings = settings.model_copy(update={**unhurried, "command_timeout": None})
    names = {"session": Database(settings, name="shell").sessions(), "models": models, "select": select}
    print(BANNER)
    start_ipython(argv=["--no-banner"], user_ns=names)


if __name__ == "__main__":
    main()
