"""The revision that stores the domains of addresses in the form of DNS (RFC 5891)."""

import asyncpg
import pytest
from alembic import command
from alembic.config import Config

from app_auth.addresses import canonical_email

pytestmark = pytest.mark.integration

BEFORE, REVISION = "3c9a5e7d1f42-1", "3c9a5e7d1f42"
# Addresses as release 0.1 stored them: as written, and the canonical form with the domain in its own script, folded.
STORED = [
    ("Ada@Example.com", "ada@example.com"),
    ("Anna@Bücher.example", "anna@bücher.example"),
    ("otto@BU\u0308CHER.example", "otto@bücher.example"),
    ("iris@xn--bcher-kva.example", "iris@bücher.example"),
    ("eva@straße.example", "eva@strasse.example"),
    ("ida@STRAẞE.example", "ida@strasse.example"),
    ("kai@xn--strae-oqa.example", "kai@strasse.example"),
    ("leo@ΒΌΛΟΣ.example", "leo@βόλοσ.example"),
    ("zoe@βόλος.example", "zoe@βόλοσ.example"),
    ("uwe@ﬁsch。example", "uwe@fisch.example"),
    ("Jörg@example.com", "jörg@example.com"),
    ("max@e\ufe0fxämple.com", "max@exämple.com"),
    ("xn--a@b.example", "xn--a@b.example"),
]


async def insert(dsn: str, *accounts: tuple[str, str]) -> None:
    connection = await asyncpg.connect(dsn)
    await connection.executemany(
        "INSERT INTO users (id, email, email_canonical, password_hash) VALUES (gen_random_uuid(), $1, $2, '-')",
        accounts,
    )
    await connection.close()


async def stored(dsn: str) -> dict[str, str]:
    connection = await asyncpg.connect(dsn)
    rows = await connection.fetch("SELECT email, email_canonical FROM users")
    await connection.close()
    return {row["email"]: row["email_canonical"] for row in rows}


async def test_each_address_that_is_stored_gets_the_form_that_is_looked_for(config: Config, dsn: str) -> None:
    """RFC 5891, 4.4 and 5.5: clients look up the A-label."""
    command.upgrade(config, BEFORE)
    await insert(dsn, *STORED)

    command.upgrade(config, REVISION)

    assert await stored(dsn) == {email: canonical_email(email) for email, _ in STORED if "\ufe0f" not in email} | {
        "max@e\ufe0fxämple.com": canonical_email("max@exämple.com")
    }


async def test_the_way_back_gives_them_their_old_form_where_nobody_else_has_it(config: Config, dsn: str) -> None:
    command.upgrade(config, BEFORE)
    await insert(dsn, *STORED)
    command.upgrade(config, REVISION)
    await insert(dsn, ("eva@strasse.example", "eva@strasse.example"), ("b@xn--", "b@xn--\u00e4"))

    command.downgrade(config, BEFORE)

    kept = {"eva@straße.example": "eva@xn--strae-oqa.example", "eva@strasse.example": "eva@strasse.example"}
    assert await stored(dsn) == dict(STORED) | kept | {"b@xn--": "b@xn--\u00e4"}


async def test_what_the_address_does_not_explain_is_left_as_it_is(config: Config, dsn: str) -> None:
    command.upgrade(config, BEFORE)
    await insert(dsn, ("ada@example.com", "somebody@else.ä"))

    command.upgrade(config, REVISION)

    assert await stored(dsn) == {"ada@example.com": "somebody@else.ä"}
