"""Finds the console: its folder may be deleted, so this one place looks for it, and nothing else imports it."""

from collections.abc import Callable, Iterable, Mapping
from importlib import import_module
from pathlib import Path
from threading import Event

from fastapi import FastAPI

from app_api.settings import ApiSettings
from app_runtime.configuration import Effective, in_effect

type AddConsole = Callable[[FastAPI, Event, Iterable[Effective], Path | None], None]

CONSOLE = "app_api.console"
FOLDER = Path(__file__).parent / "console"


def has_console(folder: Path = FOLDER) -> bool:
    """Return whether the folder of the console is there; Git may leave one with nothing but compiled files."""
    return (folder / "__init__.py").is_file()


def add_console(
    app: FastAPI, settings: ApiSettings, origins: Mapping[str, str], *, stopping: Event, folder: Path = FOLDER
) -> None:
    """Serve the console, if there is one and the settings want it."""
    if settings.console_enabled and has_console(folder):
        add: AddConsole = import_module(f"{CONSOLE}.mount").add_console
        add(app, stopping, in_effect(settings, origins), settings.mailbox)
