"""The folder of the console may be deleted."""

from pathlib import Path
from threading import Event

from fastapi import FastAPI

from app_api.optional import FOLDER, add_console, has_console
from app_api.settings import ApiSettings


def test_without_its_folder_there_is_no_console_and_nothing_fails(api_settings: ApiSettings, tmp_path: Path) -> None:
    app = FastAPI()
    (tmp_path / "__pycache__").mkdir()  # what Git leaves of it
    routes = len(app.routes)

    add_console(app, api_settings, {}, stopping=Event(), folder=tmp_path)

    assert not has_console(tmp_path)
    assert len(app.routes) == routes
    assert has_console()


OF_PAGES = ("pages", "_cookie")
"""How the names of modules end that are removed together with the console (docs/how-to/console.md)."""


def test_nothing_but_the_one_place_that_finds_it_names_the_console() -> None:
    sources = [path for path in FOLDER.parents[3].glob("*/src/**/*.py") if not path.is_relative_to(FOLDER)]
    assert len(sources) > 100

    named = [
        path.name for path in sources if "app_api.console" in path.read_text() and not path.stem.endswith(OF_PAGES)
    ]

    assert named == ["optional.py"]
