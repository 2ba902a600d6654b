#!/bin/sh
# Two libraries, on valid input, without this project: needs Python 3.13 (PYTHON=...) and an index for pip.
#
# 1. FastAPI 0.165.0 with uvicorn 0.54.0: a stream of events (fastapi.sse.EventSourceResponse) whose generator fails.
#    Seen: what is yielded right before the error never arrives; where the error comes a moment after an event, the answer
#    ends with the last chunk (0\r\n\r\n), as a whole one does. The same generators behind Starlette's StreamingResponse
#    send all that they have yielded, and no last chunk.
# 2. httptools 0.9.0 as uvicorn 0.54.0 uses it: a POST with Content-Length: 7 and an offer (Connection: Upgrade,
#    Upgrade: h2c), which a server may ignore (RFC 9110, 7.8).
#    Seen: the application reads 0 of 7 bytes, with no disconnect. Without the offer it reads 7.
#
# Prints "as seen" and ends with 0; ends with 1 if something has changed.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3.13}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet fastapi==0.165.0 starlette==1.10.0 uvicorn==0.54.0 httptools==0.9.0
cat > "$folder/try.py" <<'PYTHON'
import asyncio
import logging
import socket
import threading
import time

import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import StreamingResponse
from fastapi.sse import EventSourceResponse

logging.disable(logging.CRITICAL)
app = FastAPI()


async def pieces(pause):
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
async def plain(pause: float):
    return StreamingResponse(pieces(pause))


@app.post("/size")
async def size(request: Request):
    return len(await request.body())


def ask(request):
    with socket.create_connection(("127.0.0.1", port), timeout=10) as client:
        client.sendall(request)
        return b"".join(iter(lambda: client.recv(65536), b""))


server = uvicorn.Server(uvicorn.Config(app, port=0, http="httptools", log_config=None))
threading.Thread(target=server.run, daemon=True).start()
while not server.started:
    time.sleep(0.01)
port = server.servers[0].sockets[0].getsockname()[1]
get = "GET {} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
at_once, later = (ask(get.format(f"/events?pause={pause}").encode()) for pause in (0, 0.2))
plain_at_once, plain_later = (ask(get.format(f"/plain?pause={pause}").encode()) for pause in (0, 0.2))
post = b"POST /size HTTP/1.1\r\nHost: a\r\nContent-Length: 7\r\nConnection: close%s\r\n\r\n1234567"
read = ask(post % b"")
offered = ask(post % b", Upgrade\r\nUpgrade: h2c")
seen = {
    "events: the first arrives": b"one" in at_once and b"one" in later,
    "events: the one right before the error is lost": b"two" not in at_once and b"two" in later,
    "events: an error a moment later ends the answer as a whole one": later.endswith(b"0\r\n\r\n"),
    "plain: all arrive": all(piece in answer for piece in (b"one", b"two") for answer in (plain_at_once, plain_later)),
    "plain: no end": not (plain_at_once.endswith(b"0\r\n\r\n") or plain_later.endswith(b"0\r\n\r\n")),
    "without an offer the body is read": read.endswith(b"7"),
    "with an offer it is not": offered.endswith(b"0"),
}
for name, is_so in seen.items():
    print("as seen " if is_so else "CHANGED ", name)
raise SystemExit(not all(seen.values()))
PYTHON
"$folder/venv/bin/python" "$folder/try.py"
