"""Sentinels have to prove their identity by TLS before they are told a password or believed an address."""

import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trustme
from redis.exceptions import RedisError

from app_auth.primary import Primary
from app_runtime.testing.servers import ValkeyServer
from app_runtime.valkey import ValkeySettings
from packages.auth.tests.sentinels import SENTINEL_PASSWORD, SERVICE, SentinelServer, watch

from .test_tls import BAD, GOOD, OURS
from .tls import TlsFront


@pytest.fixture
def sentinel() -> Iterator[SentinelServer]:
    """A Sentinel of this test alone."""
    with SentinelServer.temporary() as sentinel:
        yield sentinel


@asynccontextmanager
async def asked(front: TlsFront, ca_path: Path) -> AsyncIterator[Primary]:
    OURS.cert_pem.write_to_path(ca_path)
    url = f"sentinels://:of-the-servers@{front.url.rpartition('@')[2].partition('/')[0]}/{SERVICE}"
    given = {"url": url, "sentinel_password": SENTINEL_PASSWORD, "timeout": "PT40S", "ca_path": ca_path}
    settings = ValkeySettings.model_validate(given)
    assert settings.sentinels is not None
    primary = Primary(settings, settings.sentinels, on_move=lambda: None)
    yield primary
    await primary.close()


def front_of(sentinel: SentinelServer, certificate: trustme.LeafCert) -> TlsFront:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    certificate.configure_cert(context)
    return TlsFront(sentinel.url, context)


async def test_a_sentinel_that_proves_its_name_is_believed(
    sentinel: SentinelServer, valkey: ValkeyServer, tmp_path: Path
) -> None:
    await watch(sentinel, valkey, password=valkey.password)

    async with front_of(sentinel, GOOD) as front, asked(front, tmp_path / "ca.pem") as primary:
        assert await primary.address() == ("127.0.0.1", valkey.port)


@pytest.mark.parametrize("certificate", list(BAD.values()), ids=list(BAD))
async def test_a_sentinel_that_proves_nothing_is_told_nothing(
    sentinel: SentinelServer, valkey: ValkeyServer, tmp_path: Path, certificate: trustme.LeafCert
) -> None:
    await watch(sentinel, valkey, password=valkey.password)

    async with front_of(sentinel, certificate) as front, asked(front, tmp_path / "ca.pem") as primary:
        with pytest.raises(RedisError, match="No master found"):
            await primary.address()

        assert front.passed == 0
