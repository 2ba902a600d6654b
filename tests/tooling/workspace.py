"""A workspace of three packages that depend on each other, in its own repository, for tests to change."""

import subprocess
from pathlib import Path

AUTHOR = ("-c", "user.name=Ada", "-c", "user.email=ada@example.test")
NEEDS = {"db": "", "auth": '"pet-db>=1.4,<2"', "api": '"pet-db[extra]>=1.4,<2", "pet-auth>=1.4.2,<2"'}
DECLARATION = """\
[project]
name = "pet-{folder}"
version = "1.4.2"
dependencies = [{needs}]

[tool.towncrier]
name = "pet-{folder}"
directory = "changelog.d"
"""
SOURCE = '''\
"""Pets."""

LIMIT = 5


def feed(name: str, *, grams: int = 10) -> None:
    """Feed a pet."""


def _weigh(name: str) -> None:
    """Weigh a pet."""
'''


class Workspace:
    """All packages are at 1.4.2, which was released at the first commit."""

    def __init__(self, root: Path) -> None:
        self.root = root
        for folder, needs in NEEDS.items():
            self.write(f"packages/{folder}/pyproject.toml", DECLARATION.format(folder=folder, needs=needs))
            self.write(f"packages/{folder}/src/pet_{folder}/__init__.py", SOURCE)
            self.write(f"packages/{folder}/changelog.d/.gitkeep", "")
        self.git("init", "--quiet", "--initial-branch", "main")
        self.commit()
        for folder in NEEDS:
            self.write(f"packages/{folder}/RELEASED", f"1.4.2 {self.git('rev-parse', 'main')}")
        self.commit()

    def source(self, folder: str) -> str:
        """Return the path of the one module of a package."""
        return f"packages/{folder}/src/pet_{folder}/__init__.py"

    def write(self, path: str, text: str) -> None:
        """Write a file."""
        (self.root / path).parent.mkdir(parents=True, exist_ok=True)
        (self.root / path).write_text(text)

    def replace(self, path: str, old: str, new: str) -> None:
        """Replace a text of a file, and commit."""
        text = (self.root / path).read_text()
        assert old in text
        self.write(path, text.replace(old, new))
        self.commit()

    def fragment(self, folder: str, kind: str = "feature") -> None:
        """Add a fragment, and commit."""
        self.write(f"packages/{folder}/changelog.d/+{kind}.{kind}.md", "A pet has a name.\n")
        self.commit()

    def commit(self) -> None:
        """Commit all changes."""
        self.git("add", "--all")
        self.git("commit", "--quiet", "--allow-empty", "--message", "A change")

    def git(self, *arguments: str) -> str:
        """Run git and return what it prints."""
        command = ["git", *AUTHOR, *arguments]
        return subprocess.run(command, cwd=self.root, capture_output=True, text=True, check=True).stdout
