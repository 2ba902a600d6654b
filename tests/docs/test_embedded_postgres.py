"""README.md says which modules the embedded PostgreSQL does not have: none of them is in its wheel."""

import os
import re
from pathlib import Path

import asyncpg
import pytest
from sqlalchemy import make_url

README = Path(__file__).parents[2] / "README.md"


@pytest.mark.skipif(
    bool({"APP_PG_BIN", "APP_DATABASE__URL"} & os.environ.keys()), reason="another PostgreSQL was asked for"
)
async def test_what_the_page_says_is_missing_is_missing(postgres_server_url: str) -> None:
    said = re.search(r"no contrib module: no ([^.]*)\.", README.read_text())
    assert said
    missing = set(re.findall(r"`(\w+)`", said[1]))
    url = make_url(postgres_server_url).set(drivername="postgresql", database="postgres")
    connection = await asyncpg.connect(url.render_as_string(hide_password=False))

    there = {name for (name,) in await connection.fetch("SELECT name FROM pg_available_extensions")}

    await connection.close()
    assert {"pg_trgm", "citext", "btree_gist", "pgcrypto"} <= missing
    assert missing.isdisjoint(there)
