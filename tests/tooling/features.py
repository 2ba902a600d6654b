"""A copy of the checkout to write features in, run by this environment's programs with the copy's sources."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.docs.checkout import ROOT, copied_checkout, reader_environment

AUTHOR = {f"GIT_{role}_{what}": "ada@example.test" for role in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}


@dataclass(frozen=True, slots=True)
class Copy:
    """The copy. Its first commit is the checkout as it stands."""

    root: Path

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run Python in it."""
        sources = os.pathsep.join(str(path) for path in sorted(self.root.glob("packages/*/src")))
        return subprocess.run(
            [sys.executable, *arguments],
            cwd=self.root,
            env=reader_environment(PYTHONPATH=sources, PYTHONDONTWRITEBYTECODE="1", **AUTHOR),
            capture_output=True,
            text=True,
            check=False,
        )

    def prove(self, *arguments: str) -> str:
        """Run Python in it, and return what it prints; it has to succeed."""
        done = self.run(*arguments)
        assert done.returncode == 0, f"{done.stdout[-6000:]}\n{done.stderr[-4000:]}"
        return done.stdout

    def write(self, name: str, fields: str) -> str:
        """Write a feature."""
        return self.prove("scripts/feature.py", "add", f"--name={name}", f"--fields={fields}")

    def git(self, *arguments: str) -> str:
        """Run git in it."""
        env = reader_environment(**AUTHOR)
        return subprocess.run(
            ["git", *arguments], cwd=self.root, env=env, capture_output=True, text=True, check=True
        ).stdout

    def commit(self) -> None:
        """Commit all that is there."""
        self.git("add", "--all")
        self.git("commit", "--quiet", "--no-verify", "--message", "A change")

    def changes(self) -> list[str]:
        """Return what git does not have, each with its letters."""
        return self.git("status", "--porcelain", "--untracked-files=all").splitlines()


@contextmanager
def copy_of_checkout() -> Iterator[Copy]:
    """Copy the checkout for the time of the block."""
    with copied_checkout() as root:
        yield Copy(root)


__all__ = ["ROOT", "Copy", "copy_of_checkout"]
