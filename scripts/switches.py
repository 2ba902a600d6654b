"""What a team of one may turn off: `[tool.groundwork]` in the root pyproject.toml (CONTRIBUTING.md: what is lost)."""

import tomllib
from pathlib import Path
from typing import Any, Final

FILE: Final = "pyproject.toml"
TABLE: Final = "tool.groundwork"
SWITCHES: Final = ("fragments", "public_api", "guards")


class SwitchError(Exception):
    """A setting that is none; the message says which there are."""


def is_on(root: Path, name: str) -> bool:
    """Whether the checkout keeps this up; what is not mentioned is on.

    Raises:
        SwitchError: for a name or value that would count for nothing.
    """
    path = root / FILE
    document: dict[str, Any] = tomllib.loads(path.read_text()) if path.exists() else {}  # Any: what TOML can hold
    given: dict[str, object] = document.get("tool", {}).get("groundwork", {})
    for each, value in given.items():
        if each not in SWITCHES or not isinstance(value, bool):
            raise SwitchError(f"{FILE}: [{TABLE}] {each} is none of {', '.join(SWITCHES)}, or neither true nor false")
    return bool(given.get(name, True))


def off(name: str) -> str:
    """Return the line that says so."""
    return f"{name} is off in {FILE}, [{TABLE}]: nothing is looked for."
