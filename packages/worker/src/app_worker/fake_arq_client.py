"""A stand-in for the Valkey client that arq's `run_job` expects: it sends nothing (ADR-0008)."""

from typing import Any, Self

FUNCTION = "run"
"""The name under which arq knows its one function."""


class FakeArqClient:
    """Has the methods of a redis-py client that arq calls, and never asks a server.

    arq opens two pipelines per job, which cost a third of a worker's time: it reads the payload and counts the tries,
    and deletes both at the end. Here the key holds the whole delivery, every try is the first (the ledger counts the
    attempts), and nothing has to be deleted.
    """

    def pipeline(self, *, transaction: bool) -> "FakePipeline":
        """Return a fake pipeline."""
        return FakePipeline()


class FakePipeline:
    """Collects one reply per command, in the order of the commands."""

    def __init__(self) -> None:
        self._replies: list[Any] = []

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None: ...

    def get(self, key: str) -> None:
        """Reply with the job of the key `arq:job:<id>:<fence>`, in arq's own terms."""
        _, _, job_id, fence = key.split(":")
        self._replies.append({"t": None, "f": FUNCTION, "a": (job_id, int(fence)), "k": {}, "et": 0})

    def incr(self, key: str) -> None:
        """Reply 1: the first try."""
        self._replies.append(1)

    def expire(self, key: str, seconds: int) -> None:
        """Reply True: nothing expires."""
        self._replies.append(True)

    def zrem(self, key: str, member: str) -> None:
        """Reply 0: the executor took the delivery out of the queue before it ran."""
        self._replies.append(0)

    def delete(self, *keys: str) -> None:
        """Reply 0: there is nothing to delete."""
        self._replies.append(0)

    async def execute(self) -> list[Any]:
        """Return the replies."""
        return self._replies
