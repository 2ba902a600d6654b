"""Reads the bodies of requests within limits of size and time, and answers clients whose body is refused."""

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from starlette.requests import ClientDisconnect
from starlette.types import Message, Receive, Scope, Send

from app_api.problems import MalformedRequest, PayloadTooLarge, ProblemResponse, SlowBody

LINGER_SECONDS: Final = 1.0


class InvalidLength(MalformedRequest):
    """Content-Length is not the length of the body."""

    code = "invalid_content_length"


@dataclass(frozen=True, slots=True)
class BodyLimits:
    """Bytes, and seconds for the whole body."""

    max_body: int
    max_auth_body: int
    seconds: float

    def size_for(self, path: str) -> int:
        """Return the size limit of this path; it is lower for /auth, where strangers send and bodies are short."""
        return self.max_auth_body if path.startswith("/auth/") else self.max_body


async def read_body(scope: Scope, headers: Mapping[bytes, bytes], receive: Receive, limits: BodyLimits) -> bytes:
    """Return the whole body; a body with too large a Content-Length is refused unread.

    Raises:
        PayloadTooLarge: it is larger than `limits` allow, whether or not Content-Length said so.
        SlowBody: it did not arrive in time, however steadily it came.
        InvalidLength: Content-Length is no number, or not its length; a server should not let that through.
        ClientDisconnect: the client has gone.
    """
    length = headers.get(b"content-length", b"0")
    try:
        announced = int(length)
    except ValueError:
        raise InvalidLength from None
    if not length.isdigit():
        raise InvalidLength  # 1_0 and +1, which int() takes; guard: test_a_length_that_is_no_number_is_refused
    max_size = limits.size_for(scope["path"])
    if announced > max_size:
        raise PayloadTooLarge(
            max_bytes=max_size
        )  # guard: test_a_body_that_announces_itself_as_too_large_is_refused_unread
    try:
        # A timer costs as much as the rest of this function, so there is none if no body follows.
        async with asyncio.timeout(limits.seconds if announced or b"transfer-encoding" in headers else None):
            body = await _join(receive, max_size)
    except TimeoutError:
        raise SlowBody from None
    if b"content-length" in headers and len(body) != announced:
        raise InvalidLength  # guard: test_a_body_of_another_length_than_announced_is_refused
    return body


async def _join(receive: Receive, max_size: int) -> bytes:
    chunks: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect  # guard: test_half_a_body_is_not_acted_on
        chunks.append(message.get("body", b""))
        size += len(chunks[-1])
        if size > max_size:
            raise PayloadTooLarge(max_bytes=max_size)  # guard: test_a_body_that_turns_out_too_large_is_refused
        if not message.get("more_body", False):
            return b"".join(chunks)


def replay(body: bytes, receive: Receive) -> Receive:
    """Return a `receive` that gives the body once, then the real messages, such as a disconnect."""
    sent = False

    async def replay_once() -> Message:
        nonlocal sent
        if sent:
            return await receive()
        sent = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replay_once


async def refuse_unread(refusal: ProblemResponse, scope: Scope, receive: Receive, send: Send) -> None:
    """Answer a client that is still sending, and close the connection a moment later.

    A socket that is closed with unread bytes in it is reset, and the answer may be lost with it (RFC 9112, 9.6).
    """

    async def send_then_linger(message: Message) -> None:
        if message["type"] == "http.response.start":
            await send(message)
            return
        await send({**message, "more_body": True})
        with suppress(TimeoutError):
            async with asyncio.timeout(LINGER_SECONDS):
                while (await receive()).get("more_body", False):
                    pass
        await send({"type": "http.response.body"})

    await refusal(scope, receive, send_then_linger)
