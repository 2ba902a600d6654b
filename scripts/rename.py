"""Give packages, settings and databases a team's own name, once (docs/how-to/upgrading.md): `scripts/rename.py acme`.

`app-db` becomes `acme-db`, `app_db` `acme_db`, `APP_ENV` `ACME_ENV`, all over the checkout and in one commit. Words
that merely contain "app" stay. Change files that git does not track, such as `.env`, yourself.
"""

import argparse
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
NAME = re.compile(r"[a-z][a-z0-9]*(?:[-_][a-z0-9]+)*")
LONGEST_NAME = 20
# This script stays as it is, because it reads the placeholder. Its tests go: they have nothing to rename any more.
UNTOUCHED = frozenset({"scripts/rename.py", "LICENSE"})
REMOVED = ("tests/e2e/test_rename.py", "tests/tooling/test_rename.py")


class RenameError(Exception):
    """Nothing has been changed; the message says why."""


def renamer(name: str, packages: Sequence[str]) -> Callable[[str], str]:
    """Return the function that replaces the placeholder in a text or path of a checkout with these packages."""
    snake, kebab = name.replace("-", "_"), name.replace("_", "-")
    placeholder = re.compile(
        rf"""(?<![A-Za-z0-9_]) (?:
            (?P<upper> APP_ )
          | app (?P<join> [-_] ) (?: (?= (?:{"|".join(packages)}) (?![a-z0-9]) )  # app-db, app_auth.tokens
                                   | (?= client\b )                               # app_client: what make client writes
                                   | (?= migrate\b )                              # app-migrate: an image and a unit
                                   | (?= (?: jobs? | http | build | throttle      # app_jobs_started_total: a metric
                                           | started | stopped | password_hash(?:es)? )_ )
                                   | (?= \w*[{{<]?\w*[}}>]?\w*_test\b )             # app_gw0_test: a database
                                   | (?= [{{$<*] ) )                              # app_{{member}}, app-$package
          | (?<= ["'`/=] ) app (?P<quoted> [-_] )                                # "app_production", `app_`
          | (?<= ["'] ) app (?P<key> : ) (?! \s )                                # "app:queue"
        )""",
        re.VERBOSE,
    )

    def replacement(match: re.Match[str]) -> str:
        if match["upper"]:
            return f"{snake.upper()}_"
        separator = match["join"] or match["quoted"] or match["key"]
        return f"{kebab if separator == '-' else snake}{separator}"

    return lambda text: placeholder.sub(replacement, text)


def run(root: Path, *command: str) -> str:
    """Run a command in the checkout and return its output.

    Raises:
        RenameError: with its output, if it failed.
    """
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RenameError(f"{' '.join(command)}\n{done.stdout}{done.stderr}".strip())
    return done.stdout


def packages_of(root: Path, name: str) -> list[str]:
    """Return the names of the packages after the placeholder, if `name` can replace it.

    Raises:
        RenameError: for an unfit name, a checkout with changes, or one that was renamed before.
    """
    if not NAME.fullmatch(name) or len(name) > LONGEST_NAME:
        raise RenameError(f"{name!r} cannot name a package: use up to {LONGEST_NAME} of a-z, 0-9 and single hyphens")
    if name in {"app", "test", "tests"} or name in sys.stdlib_module_names:
        raise RenameError(f"{name!r} means something else already: choose another name")
    packages = sorted(path.name.removeprefix("app_") for path in root.glob("packages/*/src/app_*"))
    if not packages:
        raise RenameError("there is no package whose name starts with app_: this checkout was renamed before")
    if changes := run(root, "git", "status", "--porcelain"):
        raise RenameError(f"commit or remove your changes first, so that the rename is a commit of its own:\n{changes}")
    return packages


def rewrite(root: Path, rename: Callable[[str], str]) -> int:
    """Rename every tracked file, and the placeholder in its text; return how many files are different."""
    changed = 0
    for path in run(root, "git", "ls-files", "-z").split("\0"):
        if not path or path in UNTOUCHED or (root / path).is_symlink():
            continue
        source, target = root / path, root / rename(path)
        try:
            text = source.read_bytes().decode()
        except UnicodeDecodeError:
            text = ""  # not a text: only its path is renamed
        if rename(text) != text:
            source.write_bytes(rename(text).encode())
        if target != source:
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.move(source, target)
        changed += target != source or rename(text) != text
    for folder in root.glob("packages/*/src/app_*"):
        shutil.rmtree(folder)  # only caches of the interpreter are left
    for path in REMOVED:
        (root / path).unlink(missing_ok=True)
    return changed


def tidy(root: Path) -> None:
    """Update formatting, imports and lock files, which depend on the length and the letters of the name."""
    uv = ("sh", "scripts/uv.sh", "run", "--quiet")
    run(root, *uv, "ruff", "check", "--fix-only", "--quiet")
    run(root, *uv, "ruff", "format", "--quiet")
    run(root, *uv, "python", "scripts/lock.py")


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("name", help="lower case, such as acme or acme-shop")
    parser.add_argument("--root", type=Path, default=ROOT, help="the checkout (default: this one)")
    arguments = parser.parse_args()
    root: Path = arguments.root
    try:
        packages = packages_of(root, arguments.name)
    except RenameError as error:
        print(error, file=sys.stderr)
        return 1
    try:
        changed = rewrite(root, renamer(arguments.name, packages))
        tidy(root)
        run(root, "git", "add", "--all")
        run(root, "git", "commit", "--quiet", "--message", f"Rename app to {arguments.name}")
    except RenameError as error:
        print(f"{error}\nTo be where you were: git reset --hard && git clean -fd", file=sys.stderr)
        return 1
    print(
        f"{changed} files, one commit. Next: `make check test` (a longer name makes longer lines: wrap what it finds)."
    )
    print("Then your product's name for Groundwork in:")
    print(run(root, "git", "grep", "--name-only", "Groundwork", "--", "packages", "pyproject.toml"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
