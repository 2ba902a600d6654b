#!/bin/sh
# FastAPI 0.165.0 with uvicorn 0.54.0: a stream of events (fastapi.sse.EventSourceResponse) whose generator fails.
# Expected: what was yielded arrives, and the answer has no last chunk, so that the client knows that it is not whole.
# Seen: what is yielded right before the error never arrives; where the error comes a moment after an event, the answer ends with
# the last chunk (0 and two line ends), as a whole one does. The same generator behind Starlette's StreamingResponse sends all
# that it has yielded, and no last chunk.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet fastapi==0.165.0 starlette==1.10.0 uvicorn==0.54.0 httptools==0.9.0
"$folder/venv/bin/python" - <<'PYTHON'
import asyncio
import logging
import socket
import threading
import time

import uvicorn
from fastapi import FastAPI
from fastapi.responses import StreamingResponse
from fastapi.sse import EventSourceResponse

logging.disable(logging.CRITICAL)
app = FastAPI()


async def pieces(pause: float):
    yield "one"
    await asyncio.sleep(0.2)
    yield "two"
    if pause:
        await asyncio.sleep(pause)
    raise RuntimeError


@app.get("/events", response_class=EventSourceResponse)
async def events(pause: float):
    async for piece in pieces(pause):
        yield piece


@app.get("/plain")
async def plain(pause: float) -> StreamingResponse:
    return StreamingResponse(pieces(pause))


server = uvicorn.Server(uvicorn.Config(app, port=0, http="httptools", log_config=None))
threading.Thread(target=server.run, daemon=True).start()
while not server.started:
    time.sleep(0.01)
port = server.servers[0].sockets[0].getsockname()[1]


def ask(request: bytes) -> bytes:
    with socket.create_connection(("127.0.0.1", port), timeout=10) as client:
        client.sendall(request)
        return b"".join(iter(lambda: client.recv(65536), b""))


get = "GET {} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
at_once, later = (ask(get.format(f"/events?pause={pause}").encode()) for pause in (0, 0.2))
plain = [ask(get.format(f"/plain?pause={pause}").encode()) for pause in (0, 0.2)]
last = b"0\r\n\r\n"
seen = {
    "events: the first arrives": b"one" in at_once and b"one" in later,
    "events: the one right before the error is lost": b"two" not in at_once and b"two" in later,
    "events: an error a moment later ends the answer as a whole one": later.endswith(last),
    "plain: all arrive": all(piece in answer for piece in (b"one", b"two") for answer in plain),
    "plain: no last chunk": not any(answer.endswith(last) for answer in plain),
}
for name, is_so in seen.items():
    print("so:" if is_so else "not so:", name)
if not all(seen.values()):
    raise SystemExit("CHANGED: what is marked `not so` was so")
print("as seen")
PYTHON
