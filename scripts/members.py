"""The packages of the workspace as a release sees them: versions, bounds, fragments, and last releases."""

import io
import subprocess
import tarfile
import tomllib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from packaging.version import Version
from rename import renamer, rewrite

ROOT = Path(__file__).resolve().parents[1]
KINDS = ("feature", "bugfix", "doc", "removal", "misc")
"""The kinds of fragments that towncrier knows."""


class ReleaseError(Exception):
    """A command is refused; the message says why, and what to do."""


@dataclass(frozen=True)
class Member:
    """A package of the checkout at `root`, in the folder packages/`folder`."""

    root: Path
    folder: str

    @property
    def path(self) -> Path:
        """The folder of the package."""
        return self.root / "packages" / self.folder

    @cached_property
    def project(self) -> dict[str, Any]:  # Any: what TOML can hold
        """The table `project` of its pyproject.toml, read once."""
        project: dict[str, Any] = tomllib.loads((self.path / "pyproject.toml").read_text())["project"]
        return project

    @property
    def name(self) -> str:
        """The name for pip, with hyphens."""
        return str(self.project["name"])

    @property
    def module(self) -> str:
        """The name for imports in Python."""
        return self.name.replace("-", "_")

    @property
    def version(self) -> Version:
        """The version in its pyproject.toml: that of the last release, because only a release changes it."""
        return Version(str(self.project["version"]))

    @property
    def requirements(self) -> set[str]:
        """The declared requirements of the package and of its extras."""
        extras: dict[str, list[str]] = self.project.get("optional-dependencies", {})
        return {line for lines in [self.project["dependencies"], *extras.values()] for line in lines}

    @property
    def fragments(self) -> list[Path]:
        """The fragments for its next changelog."""
        return sorted((self.path / "changelog.d").glob("*.md"))

    @property
    def kinds(self) -> set[str]:
        """The kinds of its fragments, such as `feature` and `removal`."""
        return {part for path in self.fragments for part in path.name.split(".")[1:-1]}

    @property
    def misspelt(self) -> list[Path]:
        """The files without a kind: towncrier would leave them out of the changelog, and not report it."""
        found = (path for path in (self.path / "changelog.d").iterdir() if not path.name.startswith("."))
        return sorted(path for path in found if set(KINDS).isdisjoint(path.name.split(".")[1:]))

    @property
    def released(self) -> str:
        """The commit of its last release, as the file RELEASED names it behind the version."""
        return (self.path / "RELEASED").read_text().split()[1]

    def tag(self, version: Version) -> str:
        """Return the tag of a release of this version in git."""
        return f"{self.name}-v{version}"


def members_of(root: Path) -> dict[str, Member]:
    """Return the packages of a checkout by folder."""
    folders = sorted(path.parent.name for path in root.glob("packages/*/pyproject.toml"))
    return {folder: Member(root, folder) for folder in folders}


def git(root: Path, *arguments: str) -> str:
    """Run git in a checkout and return its output.

    Raises:
        ReleaseError: with the error of git, if it failed.
    """
    done = subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise ReleaseError(f"git {' '.join(arguments)}\n{done.stderr.strip()}")
    return done.stdout


def has_commit(root: Path, commit: str) -> bool:
    """Whether this clone goes back to the commit; a shallow one, or one with a history of its own, may not."""
    lookup = ["git", "cat-file", "-e", f"{commit}^{{commit}}"]
    return subprocess.run(lookup, cwd=root, capture_output=True, check=False).returncode == 0


def require_commit(root: Path, commit: str) -> None:
    """Raise a ReleaseError if this clone does not go back to the commit."""
    if not has_commit(root, commit):
        raise ReleaseError(f"{commit} is not in this clone: fetch its whole history (git fetch --unshallow)")


def unpack(root: Path, commit: str, folder: Path) -> None:
    """Put the files of an earlier commit into an empty folder; with the new name if the checkout was renamed since.

    Raises:
        ReleaseError: if the clone does not go back that far.
    """
    require_commit(root, commit)
    archive = subprocess.run(["git", "archive", commit], cwd=root, capture_output=True, check=True).stdout
    with tarfile.open(fileobj=io.BytesIO(archive)) as files:
        files.extractall(folder, filter="data")
    then, now = (next(iter(members_of(each).values())) for each in (folder, root))
    if then.name != now.name:
        git(folder, "init", "--quiet")
        git(folder, "add", "--all")
        packages = [member.folder for member in members_of(folder).values()]
        rewrite(folder, renamer(now.name.removesuffix(f"-{now.folder}"), packages))
