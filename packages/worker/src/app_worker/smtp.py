"""SMTP: hands each message to a mail server in its own conversation (RFC 5321), with a time limit for each step."""

import asyncio
import re
import ssl
from contextlib import suppress
from email import policy
from email.headerregistry import Address
from email.message import EmailMessage
from ipaddress import ip_address
from typing import Final, cast

import aiosmtplib
from aiosmtplib.protocol import SMTPProtocol

from app_auth.mail import MailSettings
from app_worker.mail_errors import (
    PERMANENT,
    MailError,
    MailServerLost,
    MailServerRefuses,
    MailUnanswered,
    MailUndeliverable,
    Reply,
    refusal,
    speaks_smtp,
)
from app_worker.reaching import connect_to

FAREWELL: Final = 5.0
"""Seconds that a server has to reply to QUIT. The job does not wait for it."""
UNSAFE: Final = re.compile(r"[\s<>\x00-\x1f\x7f]")
GOES_ON: Final = 3
DONE: Final = 2
CONSENT: Final = 25
SMTP_PORT: Final = 25
SMTPS_PORT: Final = 465
TOO_LARGE: Final = 552

_LINE_END = re.compile(rb"\r\n|\n|\r")
_DOT_FIRST = re.compile(rb"(?m)^\.")


class SmtpMailer:
    """Hands each message over in its own conversation."""

    def __init__(self, settings: MailSettings) -> None:
        self._settings = settings
        self._tls_context = settings.tls_context()
        self._parting: set[asyncio.Task[None]] = set()
        self.smtputf8: bool | None = None
        """Whether the server accepts non-ASCII addresses (RFC 6531), by its last EHLO; None before the first."""

    async def ask(self) -> None:
        """Ask the server for its extensions, and send no mail. Errors are ignored: the next mail raises them."""
        conversation = _Conversation(self._settings, self._tls_context)
        try:
            if await conversation.run(None) is None:
                self._learn(conversation)
                await conversation.quit()
        finally:
            conversation.close()

    async def send(self, message: EmailMessage) -> None:
        """Send the message; when this returns, the server has accepted it.

        Raises:
            MailUndeliverable: the server refuses the recipient or the message for good.
            MailDeferred, MailServerRefuses, MailServerLost: the message was not handed over; a later try may succeed.
            MailUnanswered: the message may have been accepted.
        """
        conversation = _Conversation(self._settings, self._tls_context)
        try:
            error = await conversation.run(message)
            self._learn(conversation)
            if error is not None:
                raise error
        except BaseException:
            conversation.close()  # without QUIT: a worker that stops does not wait for a silent server
            raise
        # The message is accepted: an error of QUIT must not send it again, and the job must not wait for QUIT.
        parting = asyncio.create_task(conversation.quit())  # guard: test_nobody_waits_for_the_answer_to_quit
        self._parting.add(parting)
        parting.add_done_callback(self._parting.discard)

    def _learn(self, conversation: "_Conversation") -> None:
        if conversation.smtputf8 is not None:
            self.smtputf8 = conversation.smtputf8


class _Conversation:
    """One connection; `step` is the command that waits for a reply, for error messages."""

    def __init__(self, settings: MailSettings, tls_context: ssl.SSLContext) -> None:
        self.step = "connect"
        self.smtputf8: bool | None = None
        self._settings = settings
        self._is_sent = False
        """Whether the last line of the message was sent."""
        server = settings.server
        self._client = aiosmtplib.SMTP(
            hostname=server.host,
            local_hostname="localhost",  # without one aiosmtplib looks it up; `_greet` sets the real one
            timeout=settings.timeout.total_seconds(),
            use_tls=server.scheme == "smtps",
            start_tls=False,
            tls_context=tls_context,
        )

    async def run(self, message: EmailMessage | None) -> MailError | None:
        """Hand the message over, or only say EHLO if there is none; return the error, if any.

        The error is returned, not raised, so that its context does not hold the library's error, which shows addresses.
        """
        try:
            await self._open()
            self.smtputf8 = self._client.supports_extension("smtputf8")
            if message is not None:
                await self._hand_over(message)
        except MailError as error:
            return error
        except aiosmtplib.SMTPResponseException as failure:
            return self._refused(Reply.read(failure.code, failure.message))
        except (aiosmtplib.SMTPException, OSError) as failure:
            return self._without_answer(failure)
        return None

    async def quit(self) -> None:
        """Say QUIT, and wait `FAREWELL` for the reply."""
        try:
            with suppress(aiosmtplib.SMTPException, OSError):
                await self._client.quit(timeout=FAREWELL)
        finally:
            self.close()

    def close(self) -> None:
        """Close the connection."""
        self._client.close()

    async def _open(self) -> None:
        """Connect, with TLS and sign-in as the settings say."""
        server, client = self._settings.server, self._client
        port = server.port or (SMTPS_PORT if server.scheme == "smtps" else SMTP_PORT)
        limit = self._settings.timeout.total_seconds()
        await client.connect(sock=await connect_to(server.host, port, timeout=limit))
        await self._greet()
        if server.scheme == "smtp" and self._settings.tls != "off":
            await self._start_tls()
        if server.user is not None and server.password is not None:
            self.step = "AUTH"
            if not client.supported_auth_methods:
                raise MailServerRefuses(self.step, "is not offered")
            if client.get_transport_info("sslcontext") is not None:
                # Servers that store password hashes may offer CRAM-MD5 and refuse it, and count that as guessing.
                client.AUTH_METHODS = ("plain", "login", "cram-md5")
            await client.login(server.user, server.password)

    async def _hand_over(self, message: EmailMessage) -> None:
        """Send the commands of one message. Replies are judged by their first digit (RFC 5321, 4.2.1)."""
        (sender,), (recipient,) = message["From"].addresses, message["To"].addresses
        needs_utf8 = not f"{sender.addr_spec}{recipient.addr_spec}".isascii()
        if needs_utf8 and not self.smtputf8:
            if recipient.addr_spec.isascii():
                raise MailServerRefuses("MAIL", "SMTPUTF8 is not offered, and the sender needs it")
            raise MailUndeliverable("RCPT", "SMTPUTF8 is not offered")
        takes_8bit = self._client.supports_extension("8bitmime")
        data = _lines(message, utf8=needs_utf8, takes_8bit=takes_8bit)
        parameters = [f"SIZE={len(data)}"] if self._client.supports_extension("size") else []
        parameters += ["BODY=8BITMIME"] if takes_8bit else []
        parameters += ["SMTPUTF8"] if needs_utf8 else []
        taken = await self._say("MAIL", f"FROM:<{_safe(sender)}>", *parameters)
        self._expect(taken, DONE, is_of_message=True if taken.code == TOO_LARGE else None)  # RFC 1870, 6.1
        self._expect(await self._say("RCPT", f"TO:<{_safe(recipient)}>"), DONE, is_of_message=False)
        self._expect(await self._say("DATA"), GOES_ON, is_of_message=True)
        self._expect(await self._transfer(data), DONE, is_of_message=True)

    async def _greet(self) -> None:
        """Say EHLO with the name of the settings, else with the address of this host (RFC 5321, 4.1.4)."""
        self.step = "EHLO"
        client = self._client
        name = client.local_hostname = self._settings.ehlo_name or _literal(client.get_transport_info("sockname")[0])
        try:
            await client.ehlo(hostname=name)
        except aiosmtplib.SMTPHeloError as error:
            if error.code // 100 != PERMANENT or not client.is_connected:
                raise
            await client.helo(hostname=name)  # RFC 5321, 3.2: an old server

    async def _start_tls(self) -> None:
        self.step = "STARTTLS"
        if self._client.supports_extension("starttls"):
            await self._client.starttls()
            await self._greet()
        elif self._settings.requires_tls:
            # An attacker on the network can remove the offer (RFC 8314, 3.3).
            raise MailServerRefuses(self.step, "is not offered")  # guard: test_a_server_elsewhere_must_offer_tls

    async def _say(self, verb: str, *arguments: str) -> Reply:
        self.step = verb
        answer = await self._client.execute_command(*(word.encode() for word in (verb, *arguments)))
        return Reply.read(answer.code, answer.message)

    async def _transfer(self, data: bytes) -> Reply:
        self.step = "the message"
        protocol = cast("SMTPProtocol", self._client.protocol)  # it has just read the reply to DATA
        protocol.write(_DOT_FIRST.sub(b"..", data) + b".\r\n")
        self._is_sent = True
        # Ten minutes: the server may process the message before it replies, and deliver it after we have hung up.
        limit = self._settings.final_timeout.total_seconds()  # guard: test_a_slow_server_gets_one_copy
        answer = await protocol.read_response(timeout=limit)
        return Reply.read(answer.code, answer.message)

    def _expect(self, reply: Reply, digit: int, *, is_of_message: bool | None = None) -> None:
        # 220 and 221 accept nothing: they are a greeting and a farewell out of turn.
        if reply.code // 100 != digit or (digit == DONE and reply.code // 10 != CONSENT):
            raise self._refused(reply, is_of_message=is_of_message)

    def _refused(self, reply: Reply, *, is_of_message: bool | None = None) -> MailError:
        if self._is_sent and not speaks_smtp(reply):
            return MailUnanswered(self.step, "what answers does not speak SMTP")
        return refusal(self.step, reply, is_of_message=is_of_message)

    def _without_answer(self, failure: Exception) -> MailError:
        cause = failure if isinstance(failure, ssl.SSLError) else failure.__cause__
        if isinstance(cause, ssl.SSLError):
            return MailServerRefuses("TLS", getattr(cause, "verify_message", None) or cause.reason or "failed")
        reason = "no answer in time" if isinstance(failure, TimeoutError) else "the connection is lost"
        if self.step == "connect" and isinstance(failure, OSError) and failure.strerror:
            reason = failure.strerror
        return (MailUnanswered if self._is_sent else MailServerLost)(self.step, reason)


def _literal(address: str) -> str:
    """Return an address as a literal in place of a host name (RFC 5321, 4.1.3)."""
    address = address.partition("%")[0]
    return f"[IPv6:{address}]" if ip_address(address).version == 6 else f"[{address}]"  # noqa: PLR2004  # IPv6


def _safe(address: Address) -> str:
    """Return an address that is safe between < and >."""
    if UNSAFE.search(address.domain) or not address.addr_spec.isprintable():
        raise MailUndeliverable("RCPT", "the address cannot be written down")
    return address.addr_spec


def _lines(message: EmailMessage, *, utf8: bool, takes_8bit: bool) -> bytes:
    rules = policy.SMTPUTF8 if utf8 else policy.SMTP
    data = message.as_bytes(policy=rules if takes_8bit else rules.clone(cte_type="7bit"))
    # Some servers take a bare CR or LF for the end of a line, and others do not (SMTP smuggling).
    data = _LINE_END.sub(b"\r\n", data)
    return data if data.endswith(b"\r\n") else data + b"\r\n"
