"""Checks that a team of one may turn off: `[tool.groundwork]` in the root pyproject.toml (see CONTRIBUTING.md)."""

import tomllib
from pathlib import Path
from typing import Any, Final

FILE: Final = "pyproject.toml"
TABLE: Final = "tool.groundwork"
SWITCHES: Final = ("fragments", "public_api", "guards")


class SwitchError(Exception):
    """An invalid setting; the message names the valid ones."""


def is_on(root: Path, name: str) -> bool:
    """Whether a check is on; without a setting it is.

    Raises:
        SwitchError: for an unknown name, or a value that is no boolean.
    """
    path = root / FILE
    document: dict[str, Any] = tomllib.loads(path.read_text()) if path.exists() else {}  # Any: what TOML can hold
    given: dict[str, object] = document.get("tool", {}).get("groundwork", {})
    for each, value in given.items():
        if each not in SWITCHES or not isinstance(value, bool):
            raise SwitchError(f"{FILE}: [{TABLE}] {each} is none of {', '.join(SWITCHES)}, or neither true nor false")
    return bool(given.get(name, True))


def off(name: str) -> str:
    """Return the line that says that a check is off."""
    return f"{name} is off in {FILE}, [{TABLE}]: nothing is looked for."
