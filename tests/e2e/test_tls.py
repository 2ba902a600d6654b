"""Postgres and Valkey have to prove their identity by TLS before the API or a worker tells them anything."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import trustme
from httpx2 import AsyncClient

from app_auth.testing import PASSWORD
from app_db import Database
from app_db.settings import DatabaseSettings
from app_runtime.testing.servers import ValkeyServer

from .conftest import Environment, StartWorker, api_environment
from .processes import Api, MailSink, until
from .tls import TlsFront

OURS, THEIRS = trustme.CA(), trustme.CA()
GOOD = OURS.issue_cert("localhost")
BAD = {"of another host": OURS.issue_cert("elsewhere.test"), "of a stranger": THEIRS.issue_cert("localhost")}
ADA = "ada@example.test"


@dataclass(frozen=True, slots=True)
class Site:
    """Both servers behind TLS, and an API that reaches them only through it."""

    postgres: TlsFront
    valkey: TlsFront
    there: Environment
    """The variables with the servers' addresses and the settings of TLS."""
    api: Api

    async def readiness(self) -> dict[str, str]:
        """Return the checks of /probe/ready."""
        async with AsyncClient(base_url=self.api.url, timeout=90) as client:
            checks: dict[str, str] = (await client.get("/probe/ready")).json()["checks"]
            return checks

    async def register(self) -> int:
        """Make an account, and return the status of the answer."""
        async with AsyncClient(base_url=self.api.url, timeout=90) as client:
            return (await client.post("/auth/register", json={"email": ADA, "password": PASSWORD})).status_code


type OpenSite = Callable[[trustme.LeafCert], AbstractAsyncContextManager[Site]]


@pytest.fixture
def open_site(
    database: Database, database_settings: DatabaseSettings, valkey: ValkeyServer, tmp_path: Path
) -> OpenSite:
    """Return a function that opens a site with this certificate for both servers."""
    ca_path = tmp_path / "ca.pem"
    OURS.cert_pem.write_to_path(ca_path)
    url = database_settings.url.get_secret_value()

    @asynccontextmanager
    async def opened(certificate: trustme.LeafCert) -> AsyncIterator[Site]:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        certificate.configure_cert(context)
        async with TlsFront(url, context) as postgres, TlsFront(valkey.url, context) as in_front_of_valkey:
            there = {"APP_DATABASE__URL": postgres.url, "APP_REDIS__URL": in_front_of_valkey.url}
            there["APP_REDIS__TIMEOUT"] = "10"  # Python's handshakes are slow on a busy machine
            for server in ("DATABASE", "REDIS"):
                there |= {f"APP_{server}__TLS": "verify-full", f"APP_{server}__CA_PATH": str(ca_path)}
            environment = api_environment("", "") | there | {"APP_AUTH__VERIFICATION": "off"}
            api = await asyncio.to_thread(Api, env=environment, log=tmp_path / "api.log")
            try:
                yield Site(postgres, in_front_of_valkey, there, api)
            finally:
                api.kill()

    return opened


async def test_servers_that_prove_who_they_are_are_worked_with(
    open_site: OpenSite, start_worker: StartWorker, mail_sink: MailSink
) -> None:
    async with open_site(GOOD) as site:
        worker = await asyncio.to_thread(start_worker, **site.there)

        assert await site.readiness() == {"database": "ok", "valkey": "ok"}
        assert await site.register() == 201
        await until(lambda: mail_sink.to(ADA), "the worker has done the job")

        assert not site.api.has_logged("throttle_valkey_lost")
        assert await asyncio.to_thread(worker.stop) == 0


@pytest.mark.parametrize("certificate", list(BAD.values()), ids=list(BAD))
async def test_servers_that_prove_nothing_are_told_nothing(open_site: OpenSite, certificate: trustme.LeafCert) -> None:
    async with open_site(certificate) as site:
        assert await site.readiness() == {"database": "failed", "valkey": "failed"}
        assert await site.register() == 503

        await until(lambda: site.api.has_logged("throttle_valkey_lost"), "it says that Valkey is not there")
        assert (site.postgres.passed, site.valkey.passed) == (0, 0)


async def test_a_postgres_without_tls_is_told_nothing(
    database_settings: DatabaseSettings, valkey_url: str, tmp_path: Path
) -> None:
    OURS.cert_pem.write_to_path(tmp_path / "ca.pem")
    environment = api_environment(database_settings.url.get_secret_value(), valkey_url)
    secured = {"APP_DATABASE__TLS": "verify-full", "APP_DATABASE__CA_PATH": str(tmp_path / "ca.pem")}
    api = Api(env=environment | secured, log=tmp_path / "api.log")

    async with AsyncClient(base_url=api.url, timeout=90) as client:
        health = await client.get("/probe/health")
    api.kill()

    assert health.status_code == 503
