"""A server with several addresses is reached by the first that answers (chatmail/core #2169, thunderbird #1382)."""

import asyncio
import socket
from collections.abc import Iterator

import pytest

from app_runtime.testing.processes import free_port
from app_worker.reaching import Place, connect_to, connect_to_one


def place(port: int) -> Place:
    return (socket.AF_INET, socket.SOCK_STREAM, 0, "", ("127.0.0.1", port))


@pytest.fixture
def answering() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@pytest.fixture
def silent() -> Iterator[int]:
    """A port whose queue is full, so that the next connection gets no answer, as in a network without a route."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as server:
        waiting = [socket.socket() for _ in range(4)]
        for client in waiting:
            client.setblocking(False)  # its name there
            client.connect_ex(server.getsockname())
        yield server.getsockname()[1]
        for client in waiting:
            client.close()


async def test_an_address_that_is_silent_does_not_hide_the_next(silent: int, answering: int) -> None:
    with await connect_to_one([place(silent), place(answering)], timeout=1) as connection:
        assert connection.getpeername()[1] == answering


async def test_an_address_that_refuses_does_not_hide_the_next(answering: int) -> None:
    with await connect_to_one([place(free_port()), place(answering)], timeout=10) as connection:
        assert connection.getpeername()[1] == answering


async def test_where_nobody_answers_the_last_says_why(silent: int) -> None:
    with pytest.raises(TimeoutError):
        await connect_to_one([place(free_port()), place(silent)], timeout=0.4)
    with pytest.raises(ConnectionRefusedError):
        await connect_to_one([place(silent), place(free_port())], timeout=0.4)


async def test_a_name_is_looked_up(answering: int) -> None:
    with await connect_to("localhost", answering, timeout=10) as connection:
        assert connection.getpeername()[1] == answering
    with pytest.raises(socket.gaierror):
        await connect_to("nowhere.invalid", 25, timeout=10)


async def test_whoever_is_cancelled_leaves_no_socket(silent: int) -> None:
    connecting = asyncio.create_task(connect_to_one([place(silent)], timeout=60))
    await asyncio.sleep(0.05)
    connecting.cancel()

    with pytest.raises(asyncio.CancelledError):
        await connecting  # a socket that is left open is a warning, and so an error
