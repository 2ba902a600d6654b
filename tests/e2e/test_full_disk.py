"""A small disk below one table of the API's database is really full, or really read-only."""

import os
import shutil
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from http import HTTPStatus
from pathlib import Path

import pytest
from httpx2 import Response

from app_api.testing import assert_problem
from app_runtime.testing.binaries import UNPRIVILEGED_USER

from .http_site import HttpSite

MIB = 1024 * 1024
UNAVAILABLE_SECONDS = 6.0
"""Seconds within which the API says that its database is unavailable (promised)."""
ROWS_OF_A_PAGE = 100
"""More users than fit into the pages that the table already has."""


@pytest.fixture
def small_disk(http_site: HttpSite) -> Iterator[Path]:
    """Four MiB that only Postgres may use."""
    if os.geteuid():
        pytest.skip("only root may mount a disk")
    disk = http_site.postgres.folder / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={4 * MIB},mode=0700", "tmpfs", str(disk)]
    mounted = subprocess.run(mount, capture_output=True, text=True, check=False)
    if mounted.returncode:
        pytest.skip(f"no disk can be mounted here: {mounted.stderr}")
    try:
        shutil.chown(disk, UNPRIVILEGED_USER)
        yield disk
    finally:
        subprocess.run(["umount", "--lazy", str(disk)], check=True)  # Postgres may still have it open
        disk.rmdir()


def let_write(disk: Path, *, allowed: bool) -> None:
    """Remount the disk: a kernel makes a file system read-only after errors."""
    subprocess.run(["mount", "-o", f"remount,{'rw' if allowed else 'ro'}", str(disk)], check=True)


@asynccontextmanager
async def users_on(site: HttpSite, disk: Path) -> AsyncIterator[None]:
    """Move the table of users to this disk during the block."""
    await site.do(f"CREATE TABLESPACE small LOCATION '{disk}'")
    try:
        await site.do("ALTER TABLE users SET TABLESPACE small")
        yield
    finally:
        await site.do("ALTER TABLE users SET TABLESPACE pg_default")
        await site.do("DROP TABLESPACE small")


def fill(disk: Path) -> Path:
    """Leave no byte free; returns the file to delete."""
    filler = disk / "filler"
    with suppress(OSError), filler.open("wb", buffering=0) as file:
        while True:
            file.write(b"\0" * 4096)
    return filler


async def refused_registration(site: HttpSite) -> Response:
    """The answer to the first registration that finds no room."""
    answers = [await site.register() for _ in range(ROWS_OF_A_PAGE)]
    return next(answer for answer in answers if answer.status_code != HTTPStatus.CREATED)


async def test_a_disk_that_is_full_is_an_outage_for_writes_until_it_has_room(
    http_site: HttpSite, small_disk: Path
) -> None:
    async with users_on(http_site, small_disk):
        filler = fill(small_disk)
        refused, read = await refused_registration(http_site), await http_site.me()
        filler.unlink()
        afterwards = await http_site.register()

    assert_problem(refused, 503, "database_unavailable")
    assert refused.elapsed.total_seconds() <= UNAVAILABLE_SECONDS
    assert (read.status_code, afterwards.status_code) == (200, 201)


async def test_a_file_system_that_became_read_only_is_an_outage(http_site: HttpSite, small_disk: Path) -> None:
    """PostgreSQL reports EROFS as 42501, like a missing GRANT (errcode_for_file_access)."""
    async with users_on(http_site, small_disk):
        await http_site.do("CHECKPOINT")
        let_write(small_disk, allowed=False)
        try:
            refused, read = await refused_registration(http_site), await http_site.me()
        finally:
            let_write(small_disk, allowed=True)
        afterwards = await http_site.register()

    assert_problem(refused, 503, "database_unavailable")
    assert refused.elapsed.total_seconds() <= UNAVAILABLE_SECONDS
    # Postgres opens files to read and write, so a backend that has not opened them before cannot read either.
    assert read.status_code in {200, 503}
    assert afterwards.status_code == 201
