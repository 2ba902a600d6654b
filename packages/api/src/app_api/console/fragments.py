"""Parts of pages that are kept live: what reads them, and who may watch them."""

import re
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

from app_auth.permissions import is_operator
from app_auth.principal import Principal
from app_db import Session

_ID: Final = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
LONGEST: Final = 1000
"""Characters of a mark."""


@dataclass(frozen=True, slots=True)
class Watched:
    """A part of a page that somebody looks at, marked as `data-live="name:about"`."""

    name: str
    about: str
    """What its module wrote behind the colon, such as an id; the browser sends it back, so it may be anything."""
    viewer_id: UUID | None
    """Whose it is; None for parts of operators, which are the same for each of them."""

    @property
    def mark(self) -> str:
        """The value of `data-live`."""
        return f"{self.name}:{self.about}"


type Contexts = Mapping[Watched, Mapping[str, Any]]  # Any: the template's
type Read = Callable[[Session, Collection[Watched]], Awaitable[Contexts]]


@dataclass(frozen=True, slots=True)
class Fragment:
    """A part of a page that is kept live: `LIVE = {"export": Fragment("export_state.html", read_exports)}`.

    `read` gets all that is watched in this process, and finds it by one query, once a second. What it leaves out is not
    sent: it decides what a viewer may see, as a repository does. The template is the one that the page includes.
    """

    template: str
    read: Read
    for_operators: bool = False
    """Set by where its module is."""


def is_id(about: str) -> bool:
    """Return whether it is the id of a row, as pages write it."""
    return _ID.fullmatch(about) is not None


def watched_by(viewer: Principal, marks: Collection[str], fragments: Mapping[str, Fragment]) -> frozenset[Watched]:
    """Return what somebody may watch of these marks; others are left out, as what does not exist."""
    seen: set[Watched] = set()
    for mark in marks:
        name, _, about = mark.partition(":")
        fragment = fragments.get(name)
        if fragment is None or len(mark) > LONGEST:
            continue
        if not fragment.for_operators:
            seen.add(Watched(name, about, viewer.user_id))
        elif is_operator(viewer):  # guard: test_what_operators_watch_is_nothing_for_others
            seen.add(Watched(name, about, None))
    return frozenset(seen)
