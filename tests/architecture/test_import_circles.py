"""No module imports itself through others, so each can be read after the modules that it imports."""

import tomllib
from collections.abc import Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import grimp

ROOT = Path(__file__).parents[2]


def circle_in(imports: Mapping[str, set[str]]) -> list[str]:
    """Return the modules of a circle of imports, the first one twice; nothing if there is none."""
    try:
        TopologicalSorter(imports).prepare()
    except CycleError as error:
        circle: list[str] = error.args[1]
        return circle
    return []


def test_no_modules_import_each_other_not_even_for_their_types() -> None:
    packages = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["root_packages"]
    graph = grimp.build_graph(*packages, cache_dir=None)

    assert circle_in({module: graph.find_modules_directly_imported_by(module) for module in graph.modules}) == []


def test_a_circle_is_found() -> None:
    imports = {"app_db.engine": {"app_db.outage"}, "app_db.outage": {"app_db.errors"}, "app_db.errors": set[str]()}
    assert circle_in(imports) == []

    imports["app_db.errors"].add("app_db.engine")

    assert len(circle_in(imports)) == 4
