"""What arq's `run_job` hears when it asks Valkey about a job: the name of the delivery says it all (ADR-0008)."""

from typing import Any, Self

FUNCTION = "run"
"""What arq calls its one function by."""


class Answers:
    """Looks like a client of redis-py to arq, and asks nobody.

    arq opens two pipelines per job, which cost a third of a worker's time. It reads a job's
    payload and the count of its tries, and deletes both at the end. Here the payload is the name of the delivery, every
    try is the first (the ledger counts), and nothing is left to delete.
    """

    def pipeline(self, *, transaction: bool) -> "Pipeline":
        """Return what looks like a pipeline."""
        return Pipeline()


class Pipeline:
    """Takes down the answers in the order of the questions."""

    def __init__(self) -> None:
        self._answers: list[Any] = []

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None: ...

    def get(self, key: str) -> None:
        """Return the job of the key `arq:job:<id>:<fence>`, in arq's own terms."""
        _, _, job_id, fence = key.split(":")
        self._answers.append({"t": None, "f": FUNCTION, "a": (job_id, int(fence)), "k": {}, "et": 0})

    def incr(self, key: str) -> None:
        """Return 1: the first try."""
        self._answers.append(1)

    def expire(self, key: str, seconds: int) -> None:
        """There is nothing to expire."""
        self._answers.append(True)

    def zrem(self, key: str, member: str) -> None:
        """The delivery was taken out of the queue before it ran."""
        self._answers.append(0)

    def delete(self, *keys: str) -> None:
        """There is nothing to delete."""
        self._answers.append(0)

    async def execute(self) -> list[Any]:
        """Return them."""
        return self._answers
