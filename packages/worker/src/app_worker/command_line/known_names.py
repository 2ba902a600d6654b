"""Refuses unknown names of jobs, queues, kinds and crons, and tells people the closest known name."""

from collections.abc import Iterable
from difflib import get_close_matches

from app_db import Session
from app_db.errors import NotFound
from app_db.jobs.bulk import QUEUE as BULK
from app_db.jobs.catalog import CATALOG
from app_db.jobs.filters import JobFilter
from app_db.jobs.retention import QUEUE as RETENTION
from app_db.repositories.jobs import JobRepository

ALWAYS = ("default", RETENTION, BULK)
"""Queues that exist before they have jobs."""


class JobNotFound(NotFound):
    """There is no job with this id."""


class NameNotFound(NotFound):
    """Nothing has this name."""

    def __init__(self, what: str, name: str, known: Iterable[str]) -> None:
        super().__init__(name)
        self._what, self._name, self._known = what, name, sorted(known)

    def reason(self) -> str:
        """Return a message with the closest known name, or else with all known names."""
        near = get_close_matches(self._name, self._known, n=1)
        there_is = f"did you mean {near[0]}?" if near else f"there is {', '.join(self._known) or 'none'}"
        return f"There is no {self._what} {self._name!r}; {there_is}"


async def require_queue(session: Session, name: str) -> None:
    """Refuse the name of a queue that has no jobs, no worker and no settings.

    Raises:
        NameNotFound: with the known names.
    """
    jobs = JobRepository(session)
    if name not in ALWAYS and not await jobs.has_queue(name):
        raise NameNotFound("queue", name, {*ALWAYS, *(queue.name for queue in await jobs.queues())})


async def require_names(session: Session, *, kind: str | None, queue: str | None) -> None:
    """Refuse unknown names in a filter that found no job.

    Raises:
        NameNotFound: with the closest known name, or all.
    """
    if queue is not None:
        await require_queue(session, queue)
    kinds = [payload_class.kind for payload_class in CATALOG]
    if kind is not None and kind not in kinds:
        found = await JobRepository(session).matching(JobFilter(kind=kind), after=None, limit=1)
        if not found.items:
            raise NameNotFound("kind of job", kind, kinds)
