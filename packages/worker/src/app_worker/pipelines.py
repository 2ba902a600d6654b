"""One round trip to Valkey for what many jobs ask of it at the same moment."""

import asyncio
from collections.abc import Callable
from typing import Any, Self

from redis.asyncio import Redis

type Command = tuple[str, tuple[Any, ...], dict[str, Any]]  # Any: as redis-py's methods take them
type _Asked = tuple[list[Command], asyncio.Future[list[Any]]]


class Pipelines:
    """What arq is given for a client: it opens two pipelines per job, which costs more than the ledger's statements.

    Each becomes part of the one that is sent next, so there is one at a time. They are no transactions any more: nobody
    else touches the keys of a delivery.
    """

    def __init__(self, valkey: Redis) -> None:
        self._valkey = valkey
        self._waiting: list[_Asked] = []
        self._sender: asyncio.Task[None] | None = None

    def pipeline(self, *, transaction: bool) -> "Pipeline":
        """Return what looks like a pipeline of redis-py to arq."""
        return Pipeline(self)

    async def send(self, commands: list[Command]) -> list[Any]:
        """Return the answers.

        Raises:
            RedisError, OSError: when Valkey refuses one of them, or does not answer.
        """
        answers: asyncio.Future[list[Any]] = asyncio.get_running_loop().create_future()
        self._waiting.append((commands, answers))
        if self._sender is None or self._sender.done():
            self._sender = asyncio.create_task(self._send_all())
        return await answers

    async def _send_all(self) -> None:
        while self._waiting:
            batch = self._take_waiting()
            try:
                found = await self._execute([command for commands, _ in batch for command in commands])
            except Exception as error:  # whoever waits must hear of it, whatever it is
                # Nor do those wait who came meanwhile: it would take as long again.
                for _, answers in (*batch, *self._take_waiting()):
                    _settle(answers, [error])
                continue
            for commands, answers in batch:
                own, found = found[: len(commands)], found[len(commands) :]
                _settle(answers, own)

    def _take_waiting(self) -> list[_Asked]:
        batch, self._waiting = self._waiting, []
        return batch

    async def _execute(self, commands: list[Command]) -> list[Any]:
        async with self._valkey.pipeline(transaction=False) as pipe:
            for name, arguments, options in commands:
                getattr(pipe, name)(*arguments, **options)
            return list(await pipe.execute(raise_on_error=False))


class Pipeline:
    """Collects commands until they are executed."""

    def __init__(self, pipelines: Pipelines) -> None:
        self._pipelines = pipelines
        self._commands: list[Command] = []

    def __getattr__(self, name: str) -> Callable[..., None]:
        def command(*arguments: Any, **options: Any) -> None:
            self._commands.append((name, arguments, options))

        return command

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None: ...

    async def execute(self) -> list[Any]:
        """Send them with those of others and return the answers."""
        return await self._pipelines.send(self._commands)


def _settle(future: asyncio.Future[list[Any]], answers: list[Any]) -> None:
    if future.done():  # its job was cancelled
        return
    if errors := [answer for answer in answers if isinstance(answer, Exception)]:
        future.set_exception(errors[0])
    else:
        future.set_result(answers)
