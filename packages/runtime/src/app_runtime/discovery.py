"""Finds features: each folder below `features/` of a package is one (ADR-0055)."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Final

_NAME: Final = re.compile(r"[a-z][a-z0-9_]*")


class FeatureError(Exception):
    """A folder below `features/` does not fit. The message names the file and says what to do."""


@dataclass(frozen=True, slots=True)
class Found:
    """A module of a feature."""

    feature: str
    """The name of its folder."""
    path: str
    """Its file, for messages."""
    module: ModuleType


def feature_folders(package: str) -> list[Path]:
    """Return the folders below a package such as `app_db.features`, in the order of their names.

    Raises:
        FeatureError: a folder cannot be imported: its name fits no module, or it has no `__init__.py`.
    """
    (place, *_) = import_module(package).__path__
    folders = sorted(path for path in Path(place).iterdir() if path.name[0] not in "._" and path.is_dir())
    return [folder for folder in folders if _is_feature(folder)]


def _is_feature(folder: Path) -> bool:
    has_init = (folder / "__init__.py").is_file()
    if not has_init and all(child.name == "__pycache__" for child in folder.iterdir()):
        return False  # Git leaves the folder of a removed feature if files that Python compiled are in it
    if not _NAME.fullmatch(folder.name):
        raise FeatureError(f"{folder}: rename the folder: small letters, digits and `_`, as in `pet_tags`")
    if not has_init:
        raise FeatureError(f"{folder}: add an `__init__.py`, or remove the folder")
    return True


def find(package: str, pattern: str) -> Iterator[Found]:
    """Import the modules of features whose names match, by folder; `router` comes before `admin_router`.

    `find("app_worker.features", "handlers")` yields each `handlers.py`; `"*router"` matches every such ending.

    Raises:
        FeatureError: a folder does not fit, or a module cannot be imported.
    """
    for folder in feature_folders(package):
        for path in sorted(_files(folder, pattern), key=lambda path: (len(path.stem), path.stem)):
            yield Found(folder.name, str(path), _load(f"{package}.{folder.name}.{path.stem}", path))


def _files(folder: Path, pattern: str) -> Iterator[Path]:
    for path in folder.glob(pattern):
        if any(path.glob("*.py")):  # the pattern would find none of them
            raise FeatureError(f"{path}: make it one file, `{path.name}.py`")
    for path in folder.glob(f"{pattern}.py"):
        if not path.name.startswith("."):  # `.#router.py` is a lock of Emacs, `._router.py` a file of macOS
            yield path


def _load(name: str, path: Path) -> ModuleType:
    try:
        return import_module(name)
    except FeatureError:
        raise
    except Exception as error:
        raise FeatureError(f"{path}: cannot be imported: {type(error).__name__}: {error}") from error
