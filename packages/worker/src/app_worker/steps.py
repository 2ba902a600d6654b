"""Steps of a job in lease mode: each is committed once, and a later attempt goes on after the last one (ADR-0078)."""

import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Self

from app_db import Session
from app_db.jobs.encryption import JobCipher
from app_db.jobs.ledger import StartedJob
from app_runtime.texts import safe_repr
from app_worker.results import require_storable

MOST_STEPS = 100
LONGEST_NAME = 100


class StepsChanged(Exception):
    """The handler asks for other steps than an earlier attempt has committed: its code has changed since.

    The attempt fails before it repeats a step under another name. Deploy code that asks for the committed steps in
    their order, then retry the job.
    """


@dataclass(slots=True)
class Step:
    """One step of a job; see `JobContext.step`."""

    name: str
    is_due: bool
    """Whether no attempt has committed it yet."""
    result: Any = None  # Any: JSON
    """What is committed with the step; of a step that is not due, what was."""
    open: Callable[[], Awaitable[Session]] | None = None
    _session: Session | None = field(default=None, init=False)

    async def session(self) -> Session:
        """Return the session whose transaction the step commits; the first call opens it, as `job.transaction()` does.

        Call it after what takes long: the row of the job is locked from then on.

        Raises:
            Fenced: if this delivery no longer holds the job.
            RuntimeError: if the step is not due.
        """
        if self.open is None:
            raise RuntimeError(f"the step {self.name!r} was committed by an earlier attempt: ask for `is_due` first")
        if self._session is None:
            self._session = await self.open()
        return self._session


@dataclass(slots=True)
class Steps:
    """The committed steps of a job, in their order, and how many of them this attempt has asked for."""

    committed: list[tuple[str, Any]]  # Any: JSON
    cursor: Any  # Any: JSON
    cipher: JobCipher
    asked: int = 0
    running: str | None = None

    @classmethod
    def of(cls, job: StartedJob, cipher: JobCipher) -> Self:
        """Return those of a job that has started.

        Raises:
            PayloadLocked: what is encrypted cannot be opened.
        """
        steps = json.loads(job.steps) if job.steps else []
        committed = [(step["name"], cipher.open(f"step {step['name']}", step["result"])) for step in steps]
        return cls(committed, cipher.open("cursor", json.loads(job.cursor)) if job.cursor else None, cipher)

    def begin(self, name: str) -> Step:
        """Return the next step; if it is due, `commit` has to follow.

        Raises:
            StepsChanged: if an earlier attempt has committed another step at this place.
            RuntimeError: if the step before has not been committed.
            ValueError: for a name that was used before in this attempt, or is no name, and beyond `MOST_STEPS`.
        """
        self._require_fitting(name)
        if self.asked < len(self.committed):
            expected, result = self.committed[self.asked]
            if name != expected:
                raise StepsChanged(
                    f"an earlier attempt committed the step {expected!r}, where this code asks for {name!r}"
                )  # guard: test_a_step_under_another_name_is_not_run
            self.asked += 1
            return Step(name, is_due=False, result=result)
        self.running = name
        return Step(name, is_due=True)

    def require_next(self, step: Step) -> dict[str, Any]:  # Any: JSON
        """Return the record of a step that is to be committed.

        Raises:
            ResultTooLarge, TypeError, ValueError: if the results of all steps together could not be stored.
        """
        require_storable([result for _, result in self.committed] + [step.result])
        return {"name": step.name, "result": self.cipher.seal(f"step {step.name}", step.result)}

    def stored(self, cursor: Any) -> Any:  # Any: JSON
        """Return a cursor as the ledger keeps it."""
        return self.cipher.seal("cursor", cursor)

    def commit(self, step: Step) -> None:
        """Count a committed step. Its result becomes what a later attempt would read."""
        step.result = json.loads(json.dumps(step.result))
        self.committed.append((step.name, step.result))
        self.asked += 1
        self.running = None

    def require_all_asked(self) -> None:
        """Refuse the end of a handler that has not asked for all committed steps.

        Raises:
            StepsChanged: then.
        """
        if self.asked < len(self.committed):
            expected, _ = self.committed[self.asked]
            raise StepsChanged(
                f"an earlier attempt committed the step {expected!r}, for which this code does not ask"
            )  # guard: test_a_committed_step_that_the_code_no_longer_knows_fails_the_attempt

    def _require_fitting(self, name: str) -> None:
        if self.running is not None:
            raise RuntimeError(
                f"the step {name!r} begins although {self.running!r} was not committed: steps run one after the other, "
                "and the exception of a step ends the attempt"
            )
        if not 0 < len(name) <= LONGEST_NAME:
            raise ValueError(f"the name of a step has 1 to {LONGEST_NAME} characters, not {safe_repr(name, 200)}")
        if any(name == before for before, _ in self.committed[: self.asked]):
            raise ValueError(f"the step {name!r} has been asked for: each step of a job has a name of its own")
        if self.asked == MOST_STEPS:
            raise ValueError(
                f"a job has {MOST_STEPS} steps at most; beyond them move a cursor: job.transaction(cursor=…)"
            )
