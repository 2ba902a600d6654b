"""Comma-separated values (RFC 4180) of which no spreadsheet runs a cell as a formula."""

import re
from collections.abc import Iterable
from typing import Final

# A cell that begins so is run as a formula (OWASP, CSV Injection). A spreadsheet of a region where commas are decimal
# separators begins a cell behind each semicolon too, whatever quotes it stands in; others do behind a tab or a line.
_FORMULA: Final = re.compile(r"(^|[;\t\r\n])(?=[\s\"]*[=+\-@\t\r\n\uff1d\uff0b\uff0d\uff20])")


def line_of(cells: Iterable[str]) -> str:
    """Return a line. What would be a formula gets an apostrophe before it, which makes it text.

    Example:
        assert line_of(["192.0.2.1", "=1+1"]).startswith('"192.0.2.1",')
        assert "'=1+1" in line_of(["=1+1"])
    """
    safe = (_FORMULA.sub(r"\1'", cell) for cell in cells)  # guard: test_no_cell_is_a_formula
    return ",".join('"' + cell.replace('"', '""') + '"' for cell in safe) + "\r\n"
