"""The checkout as it is: names that are taken, and folders of a feature."""

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from fastapi.routing import iter_route_contexts
from openapi import settings

from app_api.app import create_app
from app_db.base import Base
from generator.errors import Refused
from generator.words import Words

ROOT: Final = Path(__file__).parents[2]
PACKAGES: Final = ("db", "auth", "api", "worker")
_LONGEST_IDENTIFIER: Final = 63
"""Bytes that PostgreSQL keeps of a name."""


@dataclass(frozen=True, slots=True)
class Taken:
    """Names that no new feature can have."""

    features: Collection[str]
    tables: Collection[str]
    models: Collection[str]
    paths: Collection[str]

    def check(self, words: Words, *, unique: str | None) -> None:
        """Refuse a feature that cannot have its name.

        Raises:
            Refused: with the reason.
        """
        if words.plural in self.features:
            raise Refused(f"{words.plural}: there is a feature of this name already")
        if words.plural in self.tables:
            raise Refused(f"{words.plural}: there is a table of this name already")
        if words.model in self.models:
            raise Refused(f"{words.model}: there is a model of this name already; choose another singular=…")
        if f"/{words.path}" in self.paths:
            raise Refused(f"/{words.path}: the API has this path already")
        names = [f"fk_{words.plural}_owner_id_users", f"uq_{words.plural}_owner_id_{unique or ''}"]
        if too_long := [name for name in names if len(name) > _LONGEST_IDENTIFIER]:
            raise Refused(f"{too_long[0]} would be longer than {_LONGEST_IDENTIFIER} bytes: choose shorter names")


def sources(root: Path, package: str) -> Path:
    """Return the folder of the module of a package, with any prefix: `app_db`, `acme_db`."""
    (found,) = root.glob(f"packages/{package}/src/*_{package}")
    return found


def feature_folders(root: Path, name: str) -> list[Path]:
    """Return the folders of a feature, in the packages that have one."""
    folders = [sources(root, package) / "features" / name for package in PACKAGES]
    return [folder for folder in folders if folder.is_dir()]


def taken(root: Path) -> Taken:
    """Return the names that the checkout uses."""
    features = {
        path.name for package in PACKAGES for path in (sources(root, package) / "features").glob("*") if path.is_dir()
    }
    models = {mapper.class_.__name__ for mapper in Base.registry.mappers}
    routes = iter_route_contexts(create_app(settings()).routes)
    paths = {f"/{route.path.split('/')[1]}" for route in routes if route.path}
    return Taken(features, set(Base.metadata.tables), models, paths)
