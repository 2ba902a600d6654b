"""`make feature-remove`: a feature, its tests, fragments and dependencies, and its tables by a revision."""

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from shutil import rmtree
from typing import Final

from members import git

from app_db.base import Base
from app_db.jobs.catalog import CATALOG
from app_db.models import FEATURE_MODELS
from generator.adding import describe_api, describe_settings
from generator.checkout import feature_folders
from generator.dependencies import drop, unused
from generator.errors import Refused
from generator.revision import migrated_database

_DESCRIPTIONS: Final = ("packages/api/openapi.json", "docs/reference/configuration.md")
"""Written anew from what is left."""
_HISTORY: Final = re.compile(r"/changelog\.d/|CHANGELOG\.md$|^migrations/versions/|^packages/api/openapi\.json$")


def remove(root: Path, name: str) -> list[str]:
    """Take a feature away, and return the changes and the next steps.

    Raises:
        Refused: if there is no such feature, or git does not have all of it; then nothing was removed.
    """
    sources = feature_folders(root, name)
    if not sources:
        raise Refused(f"{name}: there is no such feature below packages/*/src/*/features/")
    folders = [*sources, *_folders_of_tests(root, name)]
    fragments = [path for each in _spellings(name) for path in sorted(root.glob(f"packages/*/changelog.d/+{each}.*"))]
    packages = [root / "packages" / folder.relative_to(root).parts[1] for folder in sources]
    gone = [str(path.relative_to(root)) for path in [*folders, *fragments]]
    if changes := git(root, "status", "--porcelain", "--", *gone):
        raise Refused(f"git could not give these back: commit them, or take them away by `git clean`\n{changes}")
    words = [*_names_of(name)]
    before = _paths(root)
    revision, dropped = _take_away(root, name, folders=folders, fragments=fragments, packages=packages)
    announcements = [*_announcements(name, packages=packages, fragments=fragments)]
    written = [*announcements, *([revision] if revision else [])]
    return [
        *(f"  removed  {path}" for path in gone),
        *(f"  dropped  {each} from packages/{path.name}/pyproject.toml" for path in dropped for each in dropped[path]),
        *(f"  written  {path.relative_to(root)}" for path in written),
        *(_about(revision) if revision else ()),
        *_mentions(root, {*words, *(before - _paths(root))}),
        "Next: make lock check test" if dropped else "Next: make check test",
    ]


def _take_away(
    root: Path, name: str, *, folders: Sequence[Path], fragments: Sequence[Path], packages: Sequence[Path]
) -> tuple[Path | None, dict[Path, list[str]]]:
    """Remove the files and the dependencies; return the revision, and the names of the dependencies by package."""
    with migrated_database(root) as database:
        try:
            for folder in folders:
                rmtree(folder)
            for path in fragments:
                path.unlink()
            message = f"remove {name.replace('_', ' ')}"
            beside = _beside_tables(name)
            revision = database.write_revision(message, beside_tables=beside) if _has_tables(name) else None
            describe_api(root)
            describe_settings(root)
            dropped = {package: names for package in packages if (names := unused(package))}
        except BaseException:
            git(root, "restore", "--", *map(str, [*folders, *fragments]), *_DESCRIPTIONS)
            raise
    for package, names in dropped.items():
        drop(package, names)
    return revision, dropped


def _folders_of_tests(root: Path, name: str) -> list[Path]:
    """Return the folders of its tests: below each package, and of those that are about several packages."""
    found = {path for folder in ("packages/*/tests", "tests/**") for path in root.glob(f"{folder}/features/{name}")}
    return sorted(path for path in found if path.is_dir())


def _spellings(name: str) -> list[str]:
    """Return how the names of its fragments may begin."""
    return sorted({name, name.replace("_", "-")})


def _has_tables(name: str) -> bool:
    return any(found.feature == name for found in FEATURE_MODELS)


def _beside_tables(name: str) -> list[tuple[str, str]]:
    """Return what its models make besides tables, such as triggers: `BESIDE_TABLES`, each with how it is dropped."""
    modules = (found.module for found in FEATURE_MODELS if found.feature == name)
    return [pair for module in modules for pair in getattr(module, "BESIDE_TABLES", ())]


def _announcements(name: str, *, packages: Sequence[Path], fragments: Sequence[Path]) -> Iterator[Path]:
    """Write a fragment for the users of each package that had the feature, unless no release has announced it yet."""
    for folder in (package / "changelog.d" for package in packages):
        fragment = folder / f"+{name}.removal.md"
        if not any(folder / f"+{each}.feature.md" in fragments for each in _spellings(name)):
            fragment.write_text(f"The feature `{name}` is gone.\n")
            yield fragment


def _about(revision: Path) -> Iterator[str]:
    """Say how to deploy a revision that drops tables."""
    yield f"Read {revision.name}: what it drops is gone. Processes of the version before still read it, so"
    yield "deploy the code first, and apply the revision with the version after it (migrations/README.md)."


def _names_of(name: str) -> Iterator[str]:
    """Yield names by which other files may mention a feature: modules, tables, kinds of jobs."""
    yield f"features.{name}"
    yield f"features/{name}/"
    for mapper in Base.registry.mappers:
        if f".features.{name}." in mapper.class_.__module__:
            yield mapper.local_table.description
    yield from (payload.kind for payload in CATALOG if f".features.{name}." in payload.__module__)


def _paths(root: Path) -> set[str]:
    """Return the paths of the API, up to their first parameter."""
    described = json.loads((root / "packages/api/openapi.json").read_text())
    return {path.partition("/{")[0] for path in described["paths"]}


def _mentions(root: Path, words: Iterable[str]) -> Iterator[str]:
    """Name the files that still mention the feature, apart from those of history."""
    word = re.compile(rf"(?<![\w.])(?:\w+\.)?(?:{'|'.join(map(re.escape, sorted(words)))})(?!\w)")
    tracked = git(root, "ls-files", "-z", "--cached", "--others", "--exclude-standard").split("\0")
    kept = [path for path in tracked if path and not _HISTORY.search(path) and (root / path).is_file()]
    found = [path for path in kept if word.search((root / path).read_text(errors="ignore"))]
    if found:
        yield "Still mentioned in:"
        yield from (f"  {path}" for path in found)
