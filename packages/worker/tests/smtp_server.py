"""A mail server on a real socket that answers each step as a test says."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

GREETING, MESSAGE = "greeting", "message"
ANSWERS = {
    GREETING: "220 mail.example.test ESMTP",
    "EHLO": "250-mail.example.test\n250-8BITMIME\n250 SIZE 1000000",
    "HELO": "250 mail.example.test",
    "STARTTLS": "220 go on",
    "AUTH": "235 2.7.0 welcome",
    "MAIL": "250 2.1.0 OK",
    "RCPT": "250 2.1.5 OK",
    "DATA": "354 go on",
    MESSAGE: "250 2.0.0 OK",
    "QUIT": "221 2.0.0 bye",
}
SILENCE = ""
"""No answer at all."""
HANG_UP = "hang up"


@dataclass(slots=True)
class ScriptedServer:
    """Its answers, and the commands and mails that it got."""

    answers: dict[str, str] = field(default_factory=lambda: dict(ANSWERS))
    delays: dict[str, float] = field(default_factory=dict)
    """Seconds before an answer."""
    tls: ssl.SSLContext | None = None
    is_tls_from_the_start: bool = False
    port: int = 0
    lines: list[str] = field(default_factory=list)
    """The commands, with ` (TLS)` behind those that were encrypted."""
    messages: list[bytes] = field(default_factory=list)
    """The text between DATA and the dot, also of mails that it refused."""
    hung_up: asyncio.Event = field(default_factory=asyncio.Event)
    _conversations: list[asyncio.Task[None]] = field(default_factory=list)

    @property
    def verbs(self) -> list[str]:
        """The commands without their arguments."""
        return [line.split()[0] for line in self.lines]

    @asynccontextmanager
    async def serving(self, host: str = "127.0.0.1") -> AsyncIterator["ScriptedServer"]:
        server = await asyncio.start_server(self._accept, host, 0, ssl=self.tls if self.is_tls_from_the_start else None)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()
            for conversation in self._conversations:
                conversation.cancel()
            await asyncio.gather(*self._conversations, return_exceptions=True)
            await server.wait_closed()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._conversations.append(asyncio.create_task(self._converse(reader, writer)))

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await self._talk(reader, writer)
        finally:
            self.hung_up.set()
            writer.close()

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, asyncio.IncompleteReadError):
            step = GREETING
            while await self._answer(step, writer):
                line = (await reader.readuntil(b"\n")).decode().rstrip("\r\n")
                is_encrypted = writer.get_extra_info("ssl_object") is not None
                self.lines.append(f"{line} (TLS)" if is_encrypted else line)
                if (step := line.split(" ")[0].upper()) == "DATA" and self.answers["DATA"].startswith("354"):
                    await self._answer(step, writer)
                    self.messages.append(await reader.readuntil(b"\r\n.\r\n"))
                    step = MESSAGE
                if step == "STARTTLS" and self.tls is not None:
                    await self._answer(step, writer)
                    await writer.start_tls(self.tls)
                    step = SILENCE

    async def _answer(self, step: str, writer: asyncio.StreamWriter) -> bool:
        """Answer a step; return whether the conversation goes on."""
        await asyncio.sleep(self.delays.get(step, 0))
        answer = self.answers[step] if step else SILENCE
        if answer == HANG_UP:
            return False
        for line in answer.split("\n") if answer else ():
            writer.write(f"{line}\r\n".encode())
        await writer.drain()
        return step != "QUIT" or not answer


def server(answers: Mapping[str, str] | None = None, **options: object) -> ScriptedServer:
    """Return a server that answers as usual, except at these steps."""
    return ScriptedServer({**ANSWERS, **(answers or {})}, **options)  # type: ignore[arg-type]  # as the test says


def offering(*extensions: str) -> str:
    """Return an answer to EHLO with these extensions."""
    return "\n".join(["250-mail.example.test", *(f"250-{name}" for name in extensions), "250 OK"])


def refusals() -> Iterator[tuple[str, str]]:
    """Yield steps with a permanent refusal for each."""
    yield from [(GREETING, "554 no"), ("EHLO", "550 no"), ("MAIL", "550 5.1.8 no"), ("DATA", "503 5.5.1 no")]
