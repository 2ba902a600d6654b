#!/bin/sh
# httptools 0.9.0 as uvicorn 0.54.0 uses it: a POST with Content-Length: 7, its body, and an offer of another protocol
# (Connection: Upgrade, Upgrade: h2c), as Java's HttpClient makes it on plain http by default.
# Expected: a server that does not take the offer serves the request as if there were none (RFC 9110, 7.8): seven bytes are read.
# Seen: the application reads 0 bytes and is told that this is all, without a disconnect. Without the offer it reads 7.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet uvicorn==0.54.0 httptools==0.9.0
"$folder/venv/bin/python" - <<'PYTHON'
import logging
import socket
import threading
import time

import uvicorn

logging.disable(logging.CRITICAL)


async def app(scope, receive, send):
    if scope["type"] != "http":
        return
    size, more = 0, True
    while more:
        message = await receive()
        size += len(message.get("body", b""))
        more = message.get("more_body", False)
    body = f"{size} bytes, last message {message['type']}".encode()
    headers = [(b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


server = uvicorn.Server(uvicorn.Config(app, port=0, http="httptools", log_config=None))
threading.Thread(target=server.run, daemon=True).start()
while not server.started:
    time.sleep(0.01)
port = server.servers[0].sockets[0].getsockname()[1]


def ask(request: bytes) -> bytes:
    with socket.create_connection(("127.0.0.1", port), timeout=10) as client:
        client.sendall(request)
        return b"".join(iter(lambda: client.recv(65536), b""))


post = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 7\r\nConnection: close%s\r\n\r\n1234567"
usual = ask(post % b"")
offered = ask(post % b", Upgrade\r\nUpgrade: h2c")
print("without an offer:", usual.splitlines()[-1].decode(), "| with one:", offered.splitlines()[-1].decode())
if not usual.endswith(b"7 bytes, last message http.request") or not offered.endswith(b"0 bytes, last message http.request"):
    raise SystemExit("CHANGED: an offered upgrade does not take the body away any more")
print("as seen")
PYTHON
