"""A checkout that is copied, moved, emptied, or has an odd name: its servers use its own state only."""

import os
import pwd
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from app_runtime.testing import binaries
from app_runtime.testing.errors import ServerError
from app_runtime.testing.places import TOKEN
from app_runtime.testing.processes import FolderLock, ProcessIdentity, spawn
from app_runtime.testing.servers import PostgresServer, ValkeyServer

ODD = 'it\'s a "quoted" \\folder ${HOME} $(id) %s ü\t'


class DetachedDataServer(PostgresServer):
    """A server whose data is outside its folder, as root's is, for any user; it starts no Postgres."""

    @classmethod
    def _placed(cls, folder: Path) -> Path:
        return folder.parent / f"app-{folder.name}"

    def _prepare(self) -> None:
        self._data.mkdir(exist_ok=True)
        (self._data / "accounts").touch()

    def _command(self) -> list[str]:
        return ["/bin/sleep", "60"]

    def _run_as(self) -> None:
        return None

    def _is_ready(self) -> bool:
        return True

    @property
    def has_accounts(self) -> bool:
        return (self._data / "accounts").exists()


def started(folder: Path) -> DetachedDataServer:
    with DetachedDataServer(folder) as server:
        return server


def test_what_belongs_to_a_folder_that_is_gone_is_not_met_again(tmp_path: Path) -> None:
    """`rm -rf .data` makes new peppers; the old accounts would refuse right passwords without a word."""
    server = started(tmp_path / "data")
    (server._data / "old").touch()
    shutil.rmtree(tmp_path / "data")

    assert not (started(tmp_path / "data")._data / "old").exists()


def test_what_belongs_to_a_folder_is_met_again(tmp_path: Path) -> None:
    (started(tmp_path / "data")._data / "old").touch()

    assert (started(tmp_path / "data")._data / "old").exists()


def test_what_was_there_before_the_two_knew_of_each_other_is_kept(tmp_path: Path) -> None:
    server = started(tmp_path / "data")
    (server._data / "old").touch()
    for folder in (server.folder, tmp_path / "data"):
        (folder / TOKEN).unlink()

    assert (started(tmp_path / "data")._data / "old").exists()


def test_a_folder_that_was_moved_brings_its_data_along(tmp_path: Path) -> None:
    (started(tmp_path / "data")._data / "old").touch()
    (tmp_path / "data").rename(tmp_path / "moved")

    moved = started(tmp_path / "moved")

    assert (moved._data / "old").exists()
    assert moved.folder == tmp_path / "app-moved"
    assert not (tmp_path / "app-data").exists()


def test_a_copy_of_a_folder_takes_nothing_from_the_original(tmp_path: Path) -> None:
    (started(tmp_path / "data")._data / "old").touch()
    shutil.copytree(tmp_path / "data", tmp_path / "copy")

    assert not (started(tmp_path / "copy")._data / "old").exists()
    assert (started(tmp_path / "data")._data / "old").exists()


def test_a_copy_of_a_folder_ends_nothing_of_the_original(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    running = spawn(["/bin/sleep", "60"], env={}, cwd=tmp_path, output=subprocess.DEVNULL)
    identity = ProcessIdentity.of(running.pid)
    assert identity
    lock = FolderLock(tmp_path / "data")
    lock.remember([identity])
    shutil.copytree(tmp_path / "data", tmp_path / "copy")

    copy = FolderLock(tmp_path / "copy")

    assert copy.remembered() == []
    assert lock.remembered() == [identity]
    lock.release()
    copy.release()
    (tmp_path / "data" / "lock").write_text(f'[[{identity.pid}, "{identity.started}"]]')
    before = FolderLock(tmp_path / "data")
    assert before.remembered() == [identity], "as earlier versions wrote it"
    before.release()
    running.send_signal(signal.SIGKILL)
    running.wait()


@pytest.mark.parametrize("kind", [PostgresServer, ValkeyServer])
def test_a_folder_may_have_any_name(kind: type[PostgresServer | ValkeyServer], tmp_path: Path) -> None:
    """The configuration of Valkey ends a word at a blank, and takes quotes and escapes as C does (sdssplitargs)."""
    folder = tmp_path / ODD
    folder.mkdir()

    with kind(folder / "server") as server:
        assert server.is_alive()
        if isinstance(server, ValkeyServer):
            assert (server.folder / "appendonlydir").is_dir()
    server.erase()


NAMELESS = """
import sys
from pathlib import Path
from app_runtime.testing.servers import PostgresServer, ServerError
try:
    PostgresServer(Path(sys.argv[1])).start()
except ServerError as error:
    print(error)
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody who has no name")
def test_a_user_without_a_name_is_told_what_to_do(tmp_path: Path) -> None:
    """`docker run --user 12345`, and OpenShift's random users: initdb looks its user up, and has no option not to."""
    home = Path("/var/tmp") / f"nameless-{os.getpid()}"  # below it another user can reach files
    home.mkdir()
    os.chown(home, 12345, 0)
    command: list[str | Path] = [
        "setpriv",
        "--reuid=12345",
        "--regid=0",
        "--clear-groups",
        sys.executable,
        "-c",
        NAMELESS,
        home / "data",
    ]
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": os.pathsep.join(sys.path)}
    if subprocess.run([*command[:4], sys.executable, "-c", "import app_db"], env=environment, check=False).returncode:
        pytest.skip("this Python is in a folder that nobody else can read")

    said = subprocess.run(command, env=environment, cwd="/", capture_output=True, text=True, check=False)

    shutil.rmtree(home)
    assert said.stdout.startswith("the user id 12345 has no name here, and PostgreSQL makes no database without: ")
    assert "APP_DATABASE__URL" in said.stdout


def test_whom_the_machine_has_no_name_for_makes_no_database(monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody(_key: object) -> None:
        raise KeyError

    monkeypatch.setattr(pwd, "getpwuid", nobody)
    monkeypatch.setattr(pwd, "getpwnam", nobody)

    for user, said in ((0, "there is no user nobody here"), (12345, "the user id 12345 has no name here")):
        monkeypatch.setattr(os, "geteuid", lambda user=user: user)
        with pytest.raises(ServerError, match=said):
            binaries.require_a_name()
