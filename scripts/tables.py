"""Write docs/reference/tables.md: what makes each table grow, by how much, and what bounds it."""

import sys
from pathlib import Path
from typing import Final

import app_db.models  # noqa: F401  # with those of features
from app_db.base import Base
from app_db.growth import Growth

PAGE: Final = Path(__file__).parents[1] / "docs/reference/tables.md"
INTRODUCTION: Final = """\
# Tables

What makes each table grow, and what bounds it: written by `make reference` from the `__growth__` of its model. The
bytes are those on disk with all indexes, each column filled with a short value, as
`packages/db/tests/test_growth.py` measures; longer payloads, results and traces come on top. [The crons of
retention](../how-to/operating-jobs.md#retention) delete in batches; the [configuration](configuration.md) has the
settings.

| table | a row for | bytes | it goes when |
| --- | --- | --- | --- |
"""


def growths() -> dict[str, Growth | None]:
    """Return what each model says, by the name of its table."""
    return {mapper.class_.__tablename__: mapper.class_.__growth__ for mapper in Base.registry.mappers}


def page() -> str:
    """Return the text of the page."""
    known = ((name, growth) for name, growth in sorted(growths().items()) if growth is not None)
    rows = (
        f"| `{name}` | {growth.row} | {f'{growth.row_bytes:,}' if growth.row_bytes else ''} | {growth.until} |"
        for name, growth in known
    )
    return INTRODUCTION + "\n".join(rows) + "\n"


def main() -> int:
    """Write the page."""
    PAGE.write_text(page())
    return 0


if __name__ == "__main__":
    sys.exit(main())
