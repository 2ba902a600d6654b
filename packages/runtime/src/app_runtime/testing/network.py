"""A network between a test and a real server: far away if a test says so, and able to drop connections silently."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress


class Network:
    """Forwards connections to a server; `forget` makes all that are open silent."""

    def __init__(self, host: str, port: int, *, round_trip: float = 0) -> None:
        """`round_trip`: seconds to the server and back."""
        self._place = (host, port)
        self._delay = round_trip / 2
        self.round_trips = 0
        """How often a client has said something to a server that had spoken last, or not yet."""
        self._forgotten = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self.port = 0

    @asynccontextmanager
    async def open(self) -> AsyncIterator["Network"]:
        """Forward connections to `port` of this machine, until the end of the block."""
        server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    def forget(self) -> None:
        """Forward no more data of open connections; later connections are forwarded."""
        self._forgotten.set()
        self._forgotten = asyncio.Event()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server_reader, server_writer = await asyncio.open_connection(*self._place)
        is_clients_turn = True

        def client_speaks() -> None:
            nonlocal is_clients_turn
            self.round_trips += is_clients_turn
            is_clients_turn = False

        def server_speaks() -> None:
            nonlocal is_clients_turn
            is_clients_turn = True

        both = [(reader, server_writer, client_speaks), (server_reader, writer, server_speaks)]
        tasks = {asyncio.create_task(self._carry(*way, forgotten=self._forgotten)) for way in both}
        self._tasks |= tasks
        await asyncio.wait(tasks)
        self._tasks -= tasks
        for each in (writer, server_writer):
            each.close()

    async def _carry(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        speaks: Callable[[], None],
        *,
        forgotten: asyncio.Event,
    ) -> None:
        with suppress(OSError):  # a side that was cut off knows it already
            while chunk := await reader.read(65536):
                await asyncio.sleep(self._delay)
                speaks()
                if not forgotten.is_set():
                    writer.write(chunk)
        if forgotten.is_set():
            await asyncio.Event().wait()  # neither side learns that the other has left
        writer.close()
