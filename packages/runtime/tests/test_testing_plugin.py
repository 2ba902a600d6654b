"""The fixtures that every package uses."""

import socket
from urllib.parse import urlsplit


def test_valkey_answers(valkey_url: str) -> None:
    url = urlsplit(valkey_url)

    with socket.create_connection((url.hostname, url.port), timeout=5) as connection:
        connection.sendall(f"AUTH {url.password}\r\nPING\r\nQUIT\r\n".encode())
        answers = connection.makefile().read().splitlines()

    assert answers == ["+OK", "+PONG", "+OK"]
