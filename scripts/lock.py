"""Write the hashed requirements.lock of each image, or check those that are committed (ADR-0011).

A pin stays as long as the declarations admit it: a new dependency moves no other pin, even if the index has newer
versions. `--until` drops all pins and resolves from uploads before that day. The check asks no index. uv.lock, which
git ignores, is written too.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Mapping
from datetime import date
from pathlib import Path

from lock_check import faults
from pins import HEADER, LOCKS, LockError, Pin, keep_hashes, read, seed

ROOT = Path(__file__).resolve().parents[1]
UV = ("sh", str(ROOT / "scripts" / "uv.sh"))


def run_uv(*arguments: str, folder: Path) -> str:
    """Run uv in `folder` and return its output.

    Raises:
        LockError: with the error of uv, if it failed.
    """
    # The copy must not use the environment of a surrounding `uv run`.
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
    """Copy the declarations, on which a resolution depends, and no earlier resolution."""
    for path in [root / "pyproject.toml", root / ".python-version", *root.glob("packages/*/pyproject.toml")]:
        target = copy / path.relative_to(root)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)


def pinned(root: Path) -> list[Pin]:
    """Return the pins of a checkout's lock files; those of a missing or broken file are resolved anew."""
    pins: list[Pin] = []
    for path in LOCKS:
        try:
            pins += read(root / path, name=path)
        except LockError as error:
            print(f"{error}: it is resolved anew", file=sys.stderr)
    return pins


def exclude_newer(root: Path) -> str | None:
    """Return the date in pyproject.toml from which on uploads are ignored."""
    options: dict[str, str] = tomllib.loads((root / "pyproject.toml").read_text()).get("tool", {}).get("uv", {})
    return options.get("exclude-newer")


def others(root: Path) -> dict[str, str]:
    """Return the versions of an existing uv.lock, for the tools of the checkout, which no image has."""
    path = root / "uv.lock"
    packages = tomllib.loads(path.read_text()).get("package", []) if path.exists() else []
    return {package["name"]: package["version"] for package in packages if "registry" in package["source"]}


def resolve(root: Path, copy: Path, *, keep: bool) -> dict[str, str]:
    """Resolve the workspace at `root` in the folder `copy`; return the contents of the lock files by path.

    With `keep`, pinned versions are preferred.
    """
    copy_declarations(root, copy)
    pins = pinned(root) if keep else []
    if keep:
        (copy / "uv.lock").write_text(seed(pins, others(root), exclude_newer=exclude_newer(root)))
    run_uv("lock", "--quiet", folder=copy)
    export = ("export", "--frozen", "--no-dev", "--no-emit-workspace", "--no-header")
    fresh = {path: run_uv(*export, *of, folder=copy) for path, of in LOCKS.items()}
    return {path: HEADER + keep_hashes(text, pins, name=path) for path, text in fresh.items()}


def check(root: Path) -> int:
    """Print the faults of the lock files, and how to mend them."""
    found = list(faults(root))
    if not found:
        print(f"{len(LOCKS)} lock files satisfy the declarations.")
        return 0
    print("\n".join(found))
    print("Type `make lock`, and commit what it writes.")
    return 1


def write(root: Path, copy: Path, fresh: Mapping[str, str]) -> int:
    """Put the resolution in place."""
    shutil.copy(copy / "uv.lock", root)
    for path, content in fresh.items():
        (root / path).write_text(content)
        print(f"{path}: {len(re.findall('^[a-z]', content, re.MULTILINE))} packages")
    return 0


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    mode = parser.add_mutually_exclusive_group()
    mode.add_argument("--check", action="store_true", help="change nothing; fail if a lock file is not right")
    mode.add_argument("--until", type=date.fromisoformat, metavar="DATE", help="move exclude-newer to this day first")
    parser.add_argument("--root", type=Path, default=ROOT, help="the checkout (default: this one)")
    arguments = parser.parse_args()
    if arguments.check:
        return check(arguments.root)
    with tempfile.TemporaryDirectory(prefix="lock-") as folder:
        copy = Path(folder)
        try:
            if arguments.until:
                move_date(arguments.root, arguments.until)
            return write(arguments.root, copy, resolve(arguments.root, copy, keep=not arguments.until))
        except LockError as error:
            print(error, file=sys.stderr)
            return 1


if __name__ == "__main__":
    sys.exit(main())
