#!/bin/sh
# uvicorn 0.54.0 with httptools 0.9.0 and uvloop 0.23.0: a hundred connections are answered once and then ended, by FIN or by
# RST (what proxies and load balancers send when they drop an idle connection), with a keep-alive time of 3 s.
# Expected: when connection_lost has been called, nothing holds the connection's objects any more, however it ended.
# Seen: after FIN none is alive a second later; after RST all hundred are, until the timer of the keep-alive time fires:
# connection_lost(exc) takes the timer away only if exc is None. With 75 s and many short connections that is much memory.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet uvicorn==0.54.0 httptools==0.9.0 uvloop==0.23.0
"$folder/venv/bin/python" - <<'PYTHON'
import gc
import socket
import struct
import threading
import time
import weakref

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

connections = []


class Protocol(HttpToolsProtocol):
    def __init__(self, *args, **options):
        super().__init__(*args, **options)
        connections.append(weakref.ref(self))


async def app(scope, receive, send):
    if scope["type"] == "http":
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"ok"})


config = uvicorn.Config(app, port=0, http=Protocol, loop="uvloop", log_config=None, timeout_keep_alive=3)
server = uvicorn.Server(config)
threading.Thread(target=server.run, daemon=True).start()
while not server.started:
    time.sleep(0.01)
port = server.servers[0].sockets[0].getsockname()[1]


def alive(wait: float) -> int:
    time.sleep(wait)
    gc.collect()
    return sum(connection() is not None for connection in connections)


def ended(*, by_reset: bool) -> tuple[int, int]:
    connections.clear()
    for _ in range(100):
        with socket.create_connection(("127.0.0.1", port)) as client:
            client.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            answer = b""
            while not answer.endswith(b"ok"):
                answer += client.recv(1000)
            if by_reset:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    return alive(1), alive(4)


seen = {"FIN": ended(by_reset=False), "RST": ended(by_reset=True)}
print("alive after 1 s and after 5 s:", seen)
if seen["FIN"][0] > 5 or seen["RST"][0] < 90 or seen["RST"][1] > 5:
    raise SystemExit("CHANGED: a connection that was reset is let go at once, or one that was closed is not")
print("as seen")
PYTHON
