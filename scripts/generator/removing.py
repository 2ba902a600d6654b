"""`make feature-remove`: the folders of a feature, its tests and fragments, and its tables by a revision."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from shutil import rmtree

from members import git

from app_db.models import FEATURE_MODELS
from generator.adding import describe_api
from generator.checkout import feature_folders
from generator.errors import Refused
from generator.revision import migrated_database


def remove(root: Path, name: str) -> list[str]:
    """Take a feature away and return what was done, and what is left to do.

    Raises:
        Refused: when there is none of this name, or git does not have all of it; then nothing was removed.
    """
    sources = feature_folders(root, name)
    if not sources:
        raise Refused(f"{name}: there is no such feature below packages/*/src/*/features/")
    folders = [*sources, *(path for path in root.glob(f"packages/*/tests/features/{name}") if path.is_dir())]
    fragments = sorted(root.glob(f"packages/*/changelog.d/+{name}.*"))
    gone = [str(path.relative_to(root)) for path in [*folders, *fragments]]
    if changes := git(root, "status", "--porcelain", "--", *gone):
        raise Refused(f"git could not give these back: commit them, or take them away by `git clean`\n{changes}")
    with migrated_database(root) as database:
        try:
            for folder in folders:
                rmtree(folder)
            for path in fragments:
                path.unlink()
            revision = database.write_revision(f"remove {name.replace('_', ' ')}") if _has_tables(name) else None
            describe_api(root)
        except BaseException:
            git(root, "restore", "--", *gone, "packages/api/openapi.json")
            raise
    announcements = [*_announcements(root, name, sources=sources, fragments=fragments)]
    written = [*announcements, *([revision] if revision else [])]
    return [
        *(f"  removed  {path}" for path in gone),
        *(f"  written  {path.relative_to(root)}" for path in written),
        *(_about(revision) if revision else ()),
        *_mentions(root, name),
    ]


def _has_tables(name: str) -> bool:
    return any(found.feature == name for found in FEATURE_MODELS)


def _announcements(root: Path, name: str, *, sources: Sequence[Path], fragments: Sequence[Path]) -> Iterator[Path]:
    """Tell the users of each package that had the feature, unless they were to be told of it by the next release."""
    for folder in sources:
        package = root / "packages" / folder.relative_to(root).parts[1]
        fragment = package / "changelog.d" / f"+{name}.removal.md"
        if package / "changelog.d" / f"+{name}.feature.md" not in fragments:
            fragment.write_text(f"The feature `{name}` is gone.\n")
            yield fragment


def _about(revision: Path) -> Iterator[str]:
    """Say what is to be done with a revision that drops tables."""
    yield f"Read {revision.name}: what it drops is gone. Processes of the version before still read it, so"
    yield "deploy the code first, and apply the revision with the version after it (migrations/README.md)."


def _mentions(root: Path, name: str) -> Iterator[str]:
    """Name the files that still speak of the feature's modules."""
    word = rf"features[./]{re.escape(name)}\b|import {re.escape(name)}\b|`{re.escape(name)}`"
    tracked = git(root, "ls-files", "-z", "--cached", "--others", "--exclude-standard").split("\0")
    kept = [path for path in tracked if path and "/changelog.d/" not in path and (root / path).is_file()]
    found = [path for path in kept if re.search(word, (root / path).read_text(errors="ignore"))]
    if found:
        yield "Still mentioned in:"
        yield from (f"  {path}" for path in found)
    yield "Next: make check test"
