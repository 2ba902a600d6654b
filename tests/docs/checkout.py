"""A copy of this checkout, with an environment of its own, as a reader has it after cloning."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from app_runtime.testing.servers import PostgresServer

ROOT = Path(__file__).parents[2]
AUTHOR = {f"GIT_{role}_{what}": "ada@example.test" for role in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
"""The variables that name author and committer for git."""

# Variables of this test run, not of the machine: they would lead the copy to this checkout, or to other servers.
OURS = (
    "APP_",
    "COVERAGE_",
    "COV_",
    "PYTEST_",
    "PYTHON",
    "VIRTUAL_ENV",
    "UV_PROJECT",
    "UV_RUN",
    "GIT_",
    "MAKE",
    "MFLAGS",
)


@contextmanager
def copied_checkout() -> Iterator[Path]:
    """Copy the files that git would commit, as they stand in the working tree, into a repository of one commit.

    `uv.lock` and mypy's cache are copied if they exist, and packages come from uv's cache: this only saves time. The
    copy is deleted at the end.
    """
    with TemporaryDirectory(prefix="checkout-") as folder:
        copy = Path(folder).resolve()
        for name in [*_files(), "uv.lock"]:
            if (ROOT / name).is_file():  # git lists a deleted file until the deletion is committed
                (copy / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(ROOT / name, copy / name)
        if (ROOT / ".mypy_cache").is_dir():
            shutil.copytree(ROOT / ".mypy_cache", copy / ".mypy_cache")
        _git(copy, "init", "--quiet", "--initial-branch", "main")
        _git(copy, "add", "--all")
        author = ("-c", "user.name=Groundwork", "-c", "user.email=groundwork@example.test")
        _git(copy, *author, "commit", "--quiet", "--no-verify", "--message", "A version of Groundwork")
        try:
            yield copy
        finally:
            PostgresServer(copy / ".data/postgres").erase()  # for root, the data is elsewhere


def _files() -> list[str]:
    """Return the files that git would commit; without git, as in a tarball, all files except caches."""
    if (ROOT / ".git").exists():
        listed = _git(ROOT, "ls-files", "-z", "--cached", "--others", "--exclude-standard")
        return [name for name in listed.split("\0") if name]
    lines = (ROOT / ".gitignore").read_text().splitlines()
    made = shutil.ignore_patterns(*(line.rstrip("/") for line in lines if line and not line.startswith("#")))
    found = []
    for folder, folders, names in ROOT.walk():
        folders[:] = sorted(set(folders) - made(str(folder), folders))  # the walk enters only these
        found += [(folder / name).relative_to(ROOT).as_posix() for name in set(names) - made(str(folder), names)]
    return found


def _git(folder: Path, *arguments: str) -> str:
    env = reader_environment()
    return subprocess.run(
        ["git", *arguments], cwd=folder, env=env, check=True, stdout=subprocess.PIPE, text=True
    ).stdout


def reader_environment(**more: str) -> dict[str, str]:
    """The environment of a new terminal, with this checkout's uv on its path, and `more`.

    uv compiles no bytecode in it: most of what a test installs is never imported.
    """
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(OURS)}
    path = [folder for folder in os.environ["PATH"].split(os.pathsep) if not folder.startswith(str(ROOT))]
    own = {"PATH": os.pathsep.join([*path, str(ROOT / ".uv/bin")]), "UV_COMPILE_BYTECODE": "0"}
    return inherited | own | more
