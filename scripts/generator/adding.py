"""`make feature`: all files of a feature, or none."""

import subprocess
import sys
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from shutil import rmtree

from generator.checkout import taken
from generator.clashes import refuse_clashes
from generator.errors import Refused
from generator.fields import Field
from generator.files import render
from generator.revision import migrated_database
from generator.words import Words


def add(root: Path, words: Words, fields: Sequence[Field]) -> list[Path]:
    """Write a feature and return its files, the revision last.

    Raises:
        Refused: with the reason; nothing was written.
    """
    unique = next((field.name for field in fields if field.is_unique), None)
    taken(root).check(words, unique=unique)
    if words.singular in {field.name for field in fields}:
        raise Refused(f"{words.singular}: a field cannot have the name of the whole; choose another")
    refuse_clashes(root, words, fields)
    texts = render(root, words, fields)
    if there := [path for path in texts if path.exists()]:
        raise Refused(f"{there[0].relative_to(root)} is there already: remove it, or choose another name")
    folder, described = root / "migrations/versions", root / "packages/api/openapi.json"
    revisions, description = set(folder.glob("*.py")), described.read_bytes()
    with migrated_database(root) as database:
        try:
            for path, text in texts.items():
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text)
            tidy(root, texts)
            revision = database.write_revision(f"add {words.many}")
            describe_api(root)
        except BaseException:
            described.write_bytes(description)
            take_away(root, [*texts, *(set(folder.glob("*.py")) - revisions)])
            raise
    return [*texts, revision]


def tidy(root: Path, paths: Iterable[Path]) -> None:
    """Remove unused imports, and format."""
    sources = [path for path in paths if path.suffix == ".py"]
    for command in (["check", "--fix-only", "--quiet", "--select=F401,I"], ["format", "--quiet"]):
        subprocess.run([sys.executable, "-m", "ruff", *command, *sources], cwd=root, check=True)


def describe_api(root: Path) -> None:
    """Update the committed description of the API.

    Raises:
        Refused: with the error of the script, if it failed.
    """
    _write_anew(root, "openapi")


def describe_settings(root: Path) -> None:
    """Update the page of settings.

    Raises:
        Refused: with the error of the script, if it failed.
    """
    _write_anew(root, "reference")


def _write_anew(root: Path, target: str) -> None:
    command = [sys.executable, f"scripts/{target}.py"]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise Refused(f"make {target} failed:\n{done.stderr.strip()}")


def take_away(root: Path, paths: Iterable[Path]) -> None:
    """Remove files that were written, and the folders that were made for them."""
    for path in paths:
        path.unlink(missing_ok=True)
        for folder in path.parents[: len(path.relative_to(root).parts) - 1]:
            if folder.is_dir() and all(child.name == "__pycache__" for child in folder.iterdir()):
                rmtree(folder)
            with suppress(OSError):  # it has other files
                folder.rmdir()
