"""Finds the pages of the console: the modules of `pages/` and `operators/`, and `pages.py` and the like of features."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any, Final

from fastapi import APIRouter, Request

from app_api.console.fragments import Fragment
from app_runtime.discovery import FeatureError, find

HERE: Final = Path(__file__).parent


@dataclass(frozen=True, slots=True)
class Link:
    """An entry of the navigation; the smaller its order, the further up it stands."""

    text: str
    path: str
    order: int = 50

    def holds(self, path: str) -> bool:
        """Return whether a page is this one, or one below it."""
        return path == self.path or path.startswith(f"{self.path}/")


@dataclass(frozen=True, slots=True)
class PageModule:
    """A module with pages."""

    router: APIRouter
    link: Link | None
    for_operators: bool
    """Whether its pages exist for operators only: all of `operators/`, and `operator_pages.py` of features."""
    templates: Path
    """A folder with templates of its own, if it is there."""
    static: Path
    """A folder with scripts and styles of its own, if it is there."""
    live: Mapping[str, Fragment]
    """The parts of its pages that are kept live, by name: `LIVE = {"pet": Fragment("pet.html", read_pets)}`."""
    done: Mapping[str, str]
    """The sentences that `?done=…` shows on the next page, by code: `DONE = {"pet-saved": "The pet is saved."}`."""
    slots: Mapping[str, str]
    """Templates that pages of the console include, by slot: `SLOTS = {"account": "pets_card.html"}`."""
    slot_values: Callable[[Request], Mapping[str, Any]]  # Any: the templates'
    """What they show beside the values of the page: `def slot_values(request: Request) -> Mapping[str, Any]`."""


def found_pages(features: str = "app_api.features", *, development: bool = False) -> tuple[PageModule, ...]:
    """Import all modules with pages, of the console and of the features of this package.

    Those of `development/` are for the machine of a developer, where nobody else is: anywhere else they do not exist.

    Raises:
        FeatureError: one has no `router`.
    """
    return tuple(_found(features, ("pages", "operators", *(["development"] if development else []))))


def _found(features: str, folders: Iterable[str]) -> Iterator[PageModule]:
    for folder in folders:
        for path in sorted((HERE / folder).glob("[!_.]*.py")):
            module = import_module(f"app_api.console.{folder}.{path.stem}")
            yield _page_module(module, path, for_operators=folder == "operators")
    for found in find(features, "*pages"):
        path = Path(found.path)
        yield _page_module(found.module, path, for_operators=path.stem.startswith("operator"))


def _page_module(module: ModuleType, path: Path, *, for_operators: bool) -> PageModule:
    names = vars(module)
    router = names.get("router")
    if not isinstance(router, APIRouter):
        raise FeatureError(f"{path}: it has no `router`: add `router = APIRouter()`")
    live = {name: replace(part, for_operators=for_operators) for name, part in names.get("LIVE", {}).items()}
    templates, static = path.parent / "templates", path.parent / "static"
    done, slots, values = names.get("DONE", {}), names.get("SLOTS", {}), names.get("slot_values", _nothing)
    return PageModule(router, names.get("LINK"), for_operators, templates, static, live, done, slots, values)


def _nothing(request: Request) -> Mapping[str, Any]:
    return {}
