"""A small HTTPS server that receives webhooks, on a loopback address, with a certificate of its own authority."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import trustme

NAME = "hooks.example.com"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


def reply(status: str, body: bytes = b"", *fields: str) -> bytes:
    """Return an answer."""
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *fields, "", ""]
    return "\r\n".join(lines).encode() + body


@dataclass(slots=True)
class Receiver:
    """Keeps what it gets, and says what it is told to say."""

    ca: trustme.CA
    folder: Path
    port: int = 0
    reply: bytes | None = OK
    """None: it never answers."""
    endless: bool = False
    """Whether it goes on with zeros after its reply."""
    received: list[tuple[str, dict[str, str], bytes]] = field(default_factory=list)
    """The target, the headers and the body of each request."""
    names: list[str | None] = field(default_factory=list)
    """The names that clients have asked for (SNI)."""
    met: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def url(self) -> str:
        return f"https://{NAME}:{self.port}/hook"

    @property
    def ca_file(self) -> Path:
        path = self.folder / "ca.pem"
        self.ca.cert_pem.write_to_path(str(path))
        return path

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await self._answer(reader, writer)
        except (ConnectionError, ssl.SSLError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:-2])}
        body = await reader.readexactly(int(headers["content-length"]))
        self.received.append((head[0].split(" ")[1], headers, body))
        self.met.set()
        if self.reply is None:
            await reader.read()  # until the client goes away
            return
        writer.write(self.reply)
        await writer.drain()
        while self.endless:
            writer.write(b"0" * 65536)
            await writer.drain()


@asynccontextmanager
async def receiving(
    folder: Path, *, host: str = "127.0.0.1", names: Sequence[str] = (NAME,)
) -> AsyncIterator[Receiver]:
    """Serve until the end of the block."""
    receiver = Receiver(trustme.CA(), folder)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    receiver.ca.issue_cert(*names).configure_cert(context)
    context.sni_callback = lambda _, name, __: receiver.names.append(name)
    server = await asyncio.start_server(receiver.serve, host, 0, ssl=context)
    receiver.port = server.sockets[0].getsockname()[1]
    try:
        yield receiver
    finally:
        server.close()


class Resolver:
    """Answers each question with its next answer, and the last one again and again."""

    def __init__(self, *answers: Sequence[str]) -> None:
        self.answers = [*answers]
        self.asked: list[str] = []

    async def __call__(self, name: str) -> Sequence[str]:
        self.asked.append(name)
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
