"""A pooler in front of a real server: one session for all its clients, or one for each, as the test asks."""

import asyncio
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Self

NO_PID = 2**31 - 1
"""What it tells clients instead of the pid of the server's process."""
_READY = b"Z" + struct.pack("!I", 5) + b"I"
_SIGNED_IN = b"R" + struct.pack("!II", 8, 0)


class FakePooler:
    """Speaks as much of Postgres's protocol as PgBouncer does for a client; all clients are the same user.

    In transaction pooling it has one session, which the first client opens; each transaction of any client uses it.
    """

    def __init__(
        self, host: str, port: int, *, refuses: str = "", pools: str = "transaction", pid: int = NO_PID
    ) -> None:
        """Take the name of a startup parameter that it refuses, and the pid that it tells.

        `pools` is `transaction`, `session`, or `one session`.
        """
        self._key = b"K" + struct.pack("!IiI", 12, pid, 0)
        self._place = (host, port)
        self._refuses = refuses.encode()
        self._pools = pools
        self._tasks: set[asyncio.Task[None]] = set()
        self._turn = asyncio.Lock()
        self._server: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        self._greeting = b""
        self._client: asyncio.StreamWriter | None = None
        self._unanswered = 0
        self.parameters: list[bytes] = []
        """What each client has asked for at its start."""
        self.port = 0

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Self]:
        """Accept clients at `port` of this machine until the end of the block."""
        listener = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = listener.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            listener.close()
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            if self._server:
                self._server[1].close()

    def say(self, text: str) -> None:
        """Send the client whose transaction is open an error that answers none of its statements."""
        assert self._client
        self._client.write(_refusal(text))

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task
        self._tasks.add(task)
        try:
            with suppress(OSError, asyncio.IncompleteReadError):
                await self._serve(reader, writer)
        finally:
            self._tasks.discard(task)
            writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        length = await reader.readexactly(4)
        startup = await reader.readexactly(struct.unpack("!I", length)[0] - 4)
        if startup[:4] == struct.pack("!I", 80877102):  # a request to cancel
            return
        self.parameters.append(startup[4:])
        if self._refuses and self._refuses in startup:
            writer.write(_refusal(f"unsupported startup parameter: {self._refuses.decode()}"))
        elif self._pools == "one session" and self._greeting:
            writer.write(_SIGNED_IN + self._greeting + self._key + _READY)
            await asyncio.Event().wait()
        elif self._pools != "transaction":
            server, self._greeting = await self._sign_in(length + startup, reader, writer)
            try:
                await asyncio.gather(_carry(reader, server[1]), _carry(server[0], writer))
            finally:
                server[1].close()
        else:
            async with self._turn:
                if self._server is None:
                    self._server, self._greeting = await self._sign_in(length + startup, reader, writer)
                    self._tasks.add(asyncio.create_task(self._answer(self._server[0])))
                else:
                    writer.write(_SIGNED_IN + self._greeting + self._key + _READY)
            await self._ask(reader, writer, self._server[1])

    async def _sign_in(
        self, startup: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> tuple[tuple[asyncio.StreamReader, asyncio.StreamWriter], bytes]:
        """Let a client open a session, and return it with the parameters that the server tells."""
        server, greeting = await asyncio.open_connection(*self._place), b""
        server[1].write(_without_settings(startup))
        carrying = asyncio.create_task(_carry_passwords(reader, server[1]))
        while (message := await _message(server[0])) != _READY:
            greeting += message if message.startswith(b"S") else b""
            writer.write(self._key if message.startswith(b"K") else message)
        carrying.cancel()  # it has sent what the server needs; what follows is for the session
        await asyncio.wait([carrying])
        writer.write(_READY)
        return server, greeting

    async def _ask(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, server: asyncio.StreamWriter
    ) -> None:
        while not (message := await _message(reader)).startswith(b"X"):
            if self._client is not writer:
                await self._turn.acquire()
                self._client = writer
            self._unanswered += message[:1] in (b"Q", b"S")
            server.write(message)

    async def _answer(self, server: asyncio.StreamReader) -> None:
        while message := await _message(server):
            assert self._client
            self._client.write(message)
            self._unanswered -= message.startswith(b"Z")
            if message == _READY and not self._unanswered:
                self._client = None
                self._turn.release()


def _without_settings(startup: bytes) -> bytes:
    """Return what a pooler asks a server for: of the settings of its client only the name."""
    texts = startup[8:].split(b"\0")
    pairs = zip(texts[::2], texts[1::2], strict=False)
    kept = {name: value for name, value in pairs if name in (b"user", b"database", b"application_name")}
    body = startup[4:8] + b"".join(part + b"\0" for pair in kept.items() for part in pair) + b"\0"
    return struct.pack("!I", len(body) + 4) + body


async def _message(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readexactly(5)
    return head + await reader.readexactly(struct.unpack("!I", head[1:])[0] - 4)


async def _carry_passwords(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while True:
        writer.write(await _message(reader))


async def _carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while chunk := await reader.read(65536):
        writer.write(chunk)
    writer.close()


def _refusal(text: str) -> bytes:
    fields = b"".join(part + b"\0" for part in (b"SFATAL", b"C08P01", f"M{text}".encode())) + b"\0"
    return b"E" + struct.pack("!I", len(fields) + 4) + fields
