"""A copy of the checkout to write features in, with an environment of its own."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.docs.checkout import AUTHOR, copied_checkout, reader_environment

MIGRATIONS = ("tests/migrations/test_drift.py", "tests/migrations/test_revisions.py")
UNPLANTED = "models_say or empty or newest or applied_again or tell_their_order or just_written or changes_no_source"
"""An expression for `-k`: the tests of MIGRATIONS that check the existing revisions and models."""
ARCHITECTURE = tuple(
    f"tests/architecture/test_{name}.py" for name in ("guards", "http_names", "import_circles", "problems", "sources")
)


@dataclass(frozen=True, slots=True)
class Copy:
    """The copy. Its first commit is the checkout as it stands."""

    root: Path

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run Python in it."""
        return subprocess.run(
            [".venv/bin/python", *arguments],
            cwd=self.root,
            env=reader_environment(PYTHONDONTWRITEBYTECODE="1", **AUTHOR),
            capture_output=True,
            text=True,
            check=False,
        )

    def prove(self, *arguments: str) -> str:
        """Run Python in it, and return what it prints; it has to succeed."""
        done = self.run(*arguments)
        assert done.returncode == 0, f"{done.stdout[-6000:]}\n{done.stderr[-4000:]}"
        return done.stdout

    def make(self, target: str) -> None:
        """Run make in it; it has to succeed."""
        command, env = ["make", "--silent", target], reader_environment()
        done = subprocess.run(command, cwd=self.root, env=env, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{done.stdout[-6000:]}\n{done.stderr[-4000:]}"

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
        """Commit all changes, if there are any."""
        self.git("add", "--all")
        self.git("commit", "--quiet", "--no-verify", "--allow-empty", "--message", "A change")

    def changes(self) -> list[str]:
        """Return the changed and new files, as `git status --porcelain` prints them."""
        return self.git("status", "--porcelain", "--untracked-files=all").splitlines()


@contextmanager
def copy_of_checkout() -> Iterator[Copy]:
    """Copy the checkout for the time of the block."""
    with copied_checkout() as root:
        copy = Copy(root)
        copy.make("install")
        yield copy
