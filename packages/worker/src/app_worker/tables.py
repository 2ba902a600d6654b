"""Tables for people: columns of equal width on plain text."""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from json import dumps
from typing import Any

GAP = "  "


def table(headers: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:  # Any: whatever `cell` takes
    """Return the rows below their headers, or one line that says that there are none. Numbers are aligned right."""
    rows = list(rows)
    if not rows:
        return "none\n"
    numeric = [all(isinstance(value, int | float | None) for value in column) for column in zip(*rows, strict=True)]
    lines = [list(headers), *([cell(value) for value in row] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "".join(_line(line, widths, numeric) for line in lines)


def sheet(entries: Iterable[tuple[str, Any]]) -> str:  # Any: as above
    """Return one line for each entry: its name, then its value."""
    shown = [(name, cell(value)) for name, value in entries]
    width = max(len(name) for name, _ in shown)
    return "".join(f"{name:<{width}}{GAP}{value}\n" for name, value in shown)


def cell(value: Any) -> str:  # Any: as above
    """Return a value as people read it: moments in UTC to the second, objects as JSON, nothing as a dash."""
    match value:
        case None:
            shown = "-"
        case bool():
            shown = "yes" if value else "no"
        case datetime():
            shown = f"{value.astimezone(UTC):%Y-%m-%d %H:%M:%S}"
        case float():
            shown = f"{value:.1f}"
        case dict():
            shown = dumps(value, ensure_ascii=False)
        case list() | tuple():
            shown = ", ".join(map(cell, value))
        case _:
            shown = str(value)
    return printable(shown).replace("\n", "\\n")


def printable(text: str) -> str:
    """Return a text that says nothing to a terminal but itself; lines and tabs stay."""
    return "".join(char if char.isprintable() or char in "\n\t" else f"\\x{ord(char):02x}" for char in text)


def _line(cells: Sequence[str], widths: Sequence[int], numeric: Sequence[bool]) -> str:
    aligned = (
        text.rjust(width) if right else text.ljust(width)
        for text, width, right in zip(cells, widths, numeric, strict=True)
    )
    return GAP.join(aligned).rstrip() + "\n"
