"""Write the hashed requirements.lock of each image, or check that it equals a fresh resolution (ADR-0011).

What is resolved is pinned by `exclude-newer` in pyproject.toml. The resolution is always made anew, in a copy without
uv.lock, so that it is the same on every machine; uv.lock, which git ignores, is brought along.
"""

import argparse
import difflib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from datetime import date
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
UV = ("sh", str(ROOT / "scripts" / "uv.sh"))

LOCKS: Mapping[str, tuple[str, ...]] = {
    "packages/api/requirements.lock": ("--package", "app-api", "--extra", "tracing"),
    "packages/worker/requirements.lock": ("--package", "app-worker", "--extra", "tracing"),
    "deploy/requirements.lock": ("--only-group", "build"),
    "migrations/requirements.lock": ("--package", "app-db", "--extra", "migrations"),
}
HEADER = """\
# All that the image installs from an index, with hashes; our own packages are installed beside it as wheels.
# Written by `make lock` from the pyproject.toml files. To move it: `make lock UNTIL=<date>`.
"""


class LockError(Exception):
    """The resolution has failed; the message is what uv said."""


def run_uv(*arguments: str, folder: Path) -> str:
    """Run uv in `folder` and return its output.

    Raises:
        LockError: with what uv wrote, if it failed.
    """
    # The environment of a surrounding `uv run` is no concern of the copy.
    environment = {name: value for name, value in os.environ.items() if name != "VIRTUAL_ENV"}
    run = subprocess.run([*UV, *arguments], cwd=folder, env=environment, capture_output=True, text=True, check=False)
    if run.returncode != 0:
        raise LockError(run.stderr.strip())
    return run.stdout


def move_date(root: Path, until: date) -> None:
    """Let releases up to the start of this day be resolved."""
    path = root / "pyproject.toml"
    text, found = re.subn(r'^(exclude-newer = )".*"', rf'\1"{until}T00:00:00Z"', path.read_text(), flags=re.MULTILINE)
    if found != 1:
        raise LockError(f"{path} has {found} lines that start with exclude-newer; one is expected")
    path.write_text(text)


def copy_declarations(root: Path, copy: Path) -> None:
    """Copy what a resolution depends on: the declarations, and nothing that was resolved before."""
    for path in [root / "pyproject.toml", root / ".python-version", *root.glob("packages/*/pyproject.toml")]:
        target = copy / path.relative_to(root)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)


def resolve(root: Path, copy: Path) -> dict[str, str]:
    """Resolve the workspace at `root` anew in the folder `copy`; return the contents of the lock files by path."""
    copy_declarations(root, copy)
    run_uv("lock", "--quiet", folder=copy)
    return {
        path: HEADER + run_uv("export", "--frozen", "--no-dev", "--no-emit-workspace", "--no-header", *of, folder=copy)
        for path, of in LOCKS.items()
    }


def differences(root: Path, fresh: Mapping[str, str]) -> str:
    """Return what a fresh resolution would change, as a unified diff; empty if nothing."""
    lines: list[str] = []
    for path, content in fresh.items():
        committed = (root / path).read_text() if (root / path).exists() else ""
        lines += difflib.unified_diff(
            committed.splitlines(keepends=True), content.splitlines(keepends=True), path, f"{path} (fresh)", n=1
        )
    return "".join(lines)


def check(root: Path, fresh: Mapping[str, str]) -> int:
    """Print what a fresh resolution would change and how to accept it."""
    if not (changes := differences(root, fresh)):
        print(f"{len(fresh)} lock files equal a fresh resolution.")
        return 0
    print(changes)
    print("The lock files do not equal a fresh resolution. Type `make lock`, and commit what it writes.")
    return 1


def write(root: Path, copy: Path, fresh: Mapping[str, str]) -> int:
    """Put the fresh resolution in place."""
    shutil.copy(copy / "uv.lock", root)
    for path, content in fresh.items():
        (root / path).write_text(content)
        print(f"{path}: {len(re.findall('^[a-z]', content, re.MULTILINE))} packages")
    return 0


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    mode = parser.add_mutually_exclusive_group()
    mode.add_argument("--check", action="store_true", help="change nothing; fail if a lock file is not fresh")
    mode.add_argument("--until", type=date.fromisoformat, metavar="DATE", help="move exclude-newer to this day first")
    parser.add_argument("--root", type=Path, default=ROOT, help="the checkout (default: this one)")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="lock-") as folder:
        copy = Path(folder)
        try:
            if arguments.until:
                move_date(arguments.root, arguments.until)
            fresh = resolve(arguments.root, copy)
        except LockError as error:
            print(error, file=sys.stderr)
            return 1
        if arguments.check:
            return check(arguments.root, fresh)
        return write(arguments.root, copy, fresh)


if __name__ == "__main__":
    sys.exit(main())
