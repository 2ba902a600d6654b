"""The parts of an export: each feature adds its own by the function `export` in its `export.py`."""

import inspect
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from app_db.paging import Slice
from app_runtime.discovery import FeatureError, find

type Row = Mapping[str, Any]  # Any: JSON
type Part = Slice[Row] | Sequence[Row] | Row

RESERVED = ("account", "download")
"""Members of an export that belong to no feature."""

type Export = Callable[..., Awaitable[Part]]
"""`async def export(session: Session, user_id: UUID, *, after: Cursor | None, limit: int) -> Part`.

The job calls it once per page, in a transaction that ends before the page is written: it opens none itself. A `Slice`
is one page; if it has a `next`, the job asks for the next page. A list or a dict is the whole part.
"""


def found_parts(package: str) -> dict[str, Export]:
    """Return the functions of features by the names of their folders, which are also the members of an export.

    Raises:
        FeatureError: a file has no such function, or its folder has the name of another member.
    """
    parts: dict[str, Export] = {}
    for found in find(package, "export"):
        function = vars(found.module).get("export")
        if not inspect.iscoroutinefunction(function):
            raise FeatureError(f"{found.path}: add `async def export(session, user_id, *, after, limit)`")
        if found.feature in RESERVED:
            raise FeatureError(f"{found.path}: an export has {found.feature!r} already: rename the folder")
        parts[found.feature] = function
    return parts


PARTS = found_parts("app_worker.features")
