"""The commands of the page about security print the output that it shows."""

import os
import re
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from httpx2 import AsyncClient

from app_auth.testing import PASSWORD
from app_db.settings import DatabaseSettings
from tests.docs.checkout import ROOT, reader_environment
from tests.docs.explaining import blocks_of
from tests.docs.pages import Step, commands_of
from tests.docs.performing import Performer, reader

PAGE = ROOT / "docs/reference/security.md"

# What differs from run to run, and the columns that move with it: ids, keys, times, addresses, blanks.
VOLATILE = re.compile(
    r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}|\b[0-9a-f]{32}\b|\b\d{8}-[0-9a-f]{6}\b"
    r"|\d{4}-\d\d-\d\d \d\d:\d\d:\d\d|\b\d+(\.\d+){3}\b|\d+(?= sessions)| {2,}"
)


@pytest.fixture
def shell(database_settings: DatabaseSettings, valkey_url: str, tmp_path: Path) -> Iterator[Performer]:
    """A shell on the server; the secrets are in the file that the page makes first."""
    environment = {
        **reader_environment(),
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "APP_ENV": "test",
        "APP_DATABASE__URL": database_settings.url.get_secret_value(),
        "APP_REDIS__URL": valkey_url,
        "APP_SECRETS_FILE": "secrets.env",
        "APP_LOG__LEVEL": "WARNING",
    }
    with reader(tmp_path, env=environment) as performer:
        yield performer


@pytest.mark.timeout(400)
async def test_the_commands_of_the_page_about_security_print_what_it_shows(http: AsyncClient, shell: Performer) -> None:
    await http.post("/auth/register", json={"email": "ada@example.com", "password": PASSWORD})
    await http.post("/auth/access-token", data={"username": "ada@example.com", "password": "guessed"})

    for step in steps():
        shell.do(step)


def steps() -> Iterator[Step]:
    """Yield the page's commands one by one, with their output as a pattern."""
    for block in blocks_of(PAGE):
        if block.kind == ("console",):
            for command in commands_of(block.step):
                yield replace(block.step, text=f"$ {command.text}\n{VOLATILE.sub('…', command.shown)}\n")
