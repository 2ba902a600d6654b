"""A real PgBouncer takes the configuration of deploy/kubernetes/components/pooler; skipped where none is on PATH."""

import asyncio
import signal
import ssl
import subprocess
from collections.abc import Iterator
from configparser import ConfigParser
from pathlib import Path

import asyncpg
import pytest
from sqlalchemy import URL, make_url

from app_db.settings import DatabaseSettings
from tests.docs.manifests import FOLDER

from .pgbouncer import pgbouncer_process, require_pgbouncer, text_of
from .test_tls import GOOD, OURS

pytestmark = pytest.mark.slow

OF_THE_PLACE = ("listen_addr", "listen_port", "auth_file", "server_tls_sslmode", "server_tls_ca_file")
"""Settings that differ here: the Postgres of the tests has no certificate."""


@pytest.fixture
def app(database_settings: DatabaseSettings) -> URL:
    """The role and the database behind the pooler, with a password that PgBouncer can be told."""
    url = make_url(database_settings.url.get_secret_value())
    return url if url.password else url.set(password="of-the-test")


@pytest.fixture
def pooler(app: URL, tmp_path: Path) -> Iterator[tuple[int, subprocess.Popen[bytes]]]:
    require_pgbouncer()
    files = ConfigParser()
    files.read(FOLDER / "components/pooler/pgbouncer.ini")
    options = {name: value for name, value in files["pgbouncer"].items() if name not in OF_THE_PLACE}
    (tmp_path / "tls").mkdir()
    for name in ("client_tls_cert_file", "client_tls_key_file"):
        options[name] = str(tmp_path / "tls" / Path(options[name]).name)
    GOOD.private_key_pem.write_to_path(options["client_tls_key_file"])
    GOOD.cert_chain_pems[0].write_to_path(options["client_tls_cert_file"])
    with pgbouncer_process(tmp_path / "pgbouncer", app, app, **options) as running:
        yield running


async def through(app: URL, port: int, trusting: ssl.SSLContext | bool) -> asyncpg.Connection:
    return await asyncpg.connect(text_of(app.set(host="localhost", port=port)), ssl=trusting, statement_cache_size=0)


async def test_it_lets_in_who_has_a_password_and_nobody_in_clear(
    app: URL, pooler: tuple[int, subprocess.Popen[bytes]]
) -> None:
    trusting = ssl.create_default_context()
    OURS.configure_trust(trusting)

    connection = await through(app, pooler[0], trusting)

    assert await connection.fetchval("SELECT current_user") == app.username
    await connection.close()
    with pytest.raises(asyncpg.PostgresError, match="SSL required"):
        await through(app, pooler[0], False)
    with pytest.raises(asyncpg.PostgresError, match="authentication failed"):
        await through(app.set(password="another"), pooler[0], trusting)


async def test_the_signal_of_its_hook_ends_it_when_the_transaction_that_is_open_has_ended(
    app: URL, pooler: tuple[int, subprocess.Popen[bytes]]
) -> None:
    port, process = pooler
    trusting = ssl.create_default_context()
    OURS.configure_trust(trusting)
    idle, busy = await through(app, port, trusting), await through(app, port, trusting)
    await idle.execute("SELECT")
    async with busy.transaction():
        await busy.execute("SELECT")
        process.send_signal(signal.SIGINT)
        await asyncio.sleep(1)
        assert process.poll() is None
        assert await busy.fetchval("SELECT 1") == 1

    assert await asyncio.to_thread(process.wait, 10) == 0
    idle.terminate()
    busy.terminate()
