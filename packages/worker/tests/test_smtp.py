"""The conversation with a mail server: its steps, its limits, and the meaning of each refusal."""

import asyncio
import base64
import gc
import ssl
import traceback
from datetime import timedelta
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
import trustme
import uvloop

from app_auth.mail import MailSettings
from app_worker.mail import compose
from app_worker.mail_errors import (
    MailDeferred,
    MailError,
    MailServerLost,
    MailServerRefuses,
    MailUnanswered,
    MailUndeliverable,
)
from app_worker.smtp import SmtpMailer
from app_worker.time_limit import own_limits, time_limit

from .conftest import until
from .smtp_server import HANG_UP, SILENCE, ScriptedServer, offering, server

OURS, THEIRS = trustme.CA(), trustme.CA()
ADDRESS = "anna@example.test"


def a_mail(*, to: str = ADDRESS, text: str | None = None) -> EmailMessage:
    values = {"product": "Groundwork", "base_url": "https://groundwork.test/", "email": to}
    message = compose("welcome", sender="Acme, Inc. <hello@acme.example>", to=to, message_id="1", values=values)
    if text is not None:
        message.clear_content()
        message.set_content(text)
    return message


def mailer(
    to: ScriptedServer, *, scheme: str = "smtp", user: str = "", host: str = "127.0.0.1", **more: Any
) -> SmtpMailer:
    return SmtpMailer(MailSettings.model_validate({"url": f"{scheme}://{user}{host}:{to.port}", **more}))


async def refused(to: ScriptedServer, **more: Any) -> MailError:
    async with to.serving():
        with pytest.raises(MailError) as raised:
            await mailer(to, **more).send(a_mail())
    return raised.value


def speaking_tls(ca: trustme.CA, name: str = "127.0.0.1") -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.issue_cert(name).configure_cert(context)
    return context


@pytest.fixture
def our_ca(tmp_path: Path) -> Path:
    path = tmp_path / "ca.pem"
    OURS.cert_pem.write_to_path(str(path))
    return path


async def test_the_steps_of_a_mail_are_those_of_rfc_5321() -> None:
    async with server().serving() as to:
        await mailer(to).send(a_mail())
        async with asyncio.timeout(45):
            await to.hung_up.wait()

    (message,) = to.messages
    size = len(message.removesuffix(b".\r\n"))
    assert to.lines == [
        "EHLO [127.0.0.1]",
        f"MAIL FROM:<hello@acme.example> SIZE={size} BODY=8BITMIME",
        f"RCPT TO:<{ADDRESS}>",
        "DATA",
        "QUIT",
    ]
    assert b'From: "Acme, Inc." <hello@acme.example>\r\n' in message
    assert b"Message-ID: <1@acme.example>\r\n" in message


@pytest.mark.parametrize(
    ("host", "given", "name"),
    [
        ("127.0.0.1", None, "[127.0.0.1]"),
        ("[::1]", None, "[IPv6:::1]"),
        ("127.0.0.1", "worker.example.com", "worker.example.com"),
        ("127.0.0.1", "[IPv6:2001:db8::1]", "[IPv6:2001:db8::1]"),
    ],
)
async def test_we_call_ourselves_by_a_full_name_or_by_our_address(host: str, given: str | None, name: str) -> None:
    """RFC 5321, 4.1.4; we do not ask the system for our name, which in a container is short, or `localhost`."""
    async with server().serving(host.strip("[]")) as to:
        await mailer(to, host=host, ehlo_name=given).send(a_mail())

    assert to.lines[0] == f"EHLO {name}"


async def test_an_old_server_is_greeted_in_the_old_way() -> None:
    """RFC 5321, 3.2: a server that does not know EHLO gets HELO; then all lines are ASCII."""
    async with server({"EHLO": "502 what?"}).serving() as to:
        await mailer(to).send(a_mail(text="Grüße"))

    assert to.lines[:3] == ["EHLO [127.0.0.1]", "HELO [127.0.0.1]", "MAIL FROM:<hello@acme.example>"]
    assert to.messages[0].isascii()


async def test_a_line_that_is_a_dot_does_not_end_the_mail() -> None:
    async with server().serving() as to:
        await mailer(to).send(a_mail(text="one\n.\n..two\r.\rthree\n"))

    assert to.messages[0].endswith(b"one\r\n..\r\n...two\r\n..\r\nthree\r\n.\r\n")


@pytest.mark.parametrize(
    ("step", "answer", "error", "text"),
    [
        # The recipient, or the message.
        ("RCPT", "550 5.1.1 <anna@example.test>: unknown", MailUndeliverable, "RCPT: 550 5.1.1"),
        ("RCPT", "550 no such user", MailUndeliverable, "RCPT: 550"),
        ("RCPT", "550-5.1.1 The account\n550 5.1.1 does not exist", MailUndeliverable, "RCPT: 550 5.1.1"),
        ("RCPT", "550 5.5.0 mailbox unavailable", MailUndeliverable, "RCPT: 550 5.5.0"),
        ("RCPT", "550 5.4.1 Recipient address rejected: Access denied", MailUndeliverable, "RCPT: 550 5.4.1"),
        ("RCPT", "552 5.2.2 full", MailUndeliverable, "RCPT: 552 5.2.2"),
        ("RCPT", "501 5.1.3 bad syntax", MailUndeliverable, "RCPT: 501 5.1.3"),
        ("RCPT", "551 5.7.17 the mailbox has a new owner", MailUndeliverable, "RCPT: 551 5.7.17"),
        ("RCPT", "556 5.1.10 null MX", MailUndeliverable, "RCPT: 556 5.1.10"),
        ("RCPT", "550 4.1.1 which is it", MailUndeliverable, "RCPT: 550"),
        ("DATA", "554 5.1.1 no valid recipients", MailUndeliverable, "DATA: 554 5.1.1"),
        ("message", "550 5.7.1 spam", MailUndeliverable, "the message: 550 5.7.1"),
        ("message", "554 rejected", MailUndeliverable, "the message: 554"),
        ("message", "552 5.3.4 too large", MailUndeliverable, "the message: 552 5.3.4"),
        # Not now.
        ("RCPT", "450 4.2.0 greylisted", MailDeferred, "RCPT: 450 4.2.0"),
        ("RCPT", "452 4.2.2 full", MailDeferred, "RCPT: 452 4.2.2"),
        ("message", "451 4.3.0 try again", MailDeferred, "the message: 451 4.3.0"),
        ("MAIL", "421 4.3.2 shutting down", MailDeferred, "MAIL: 421 4.3.2"),
        ("AUTH", "454 4.7.0 the directory is away", MailDeferred, "AUTH: 454 4.7.0"),
        ("greeting", "421 too many connections", MailDeferred, "connect: 421"),
        ("EHLO", "421 busy", MailDeferred, "EHLO: 421"),
        # The server, or we.
        ("greeting", "554 5.7.1 you are listed", MailServerRefuses, "connect: 554 5.7.1"),
        ("AUTH", "535 5.7.8 wrong", MailServerRefuses, "AUTH: 535 5.7.8"),
        ("MAIL", "550 5.1.1 no such sender", MailServerRefuses, "MAIL: 550 5.1.1"),
        ("MAIL", "530 5.7.0 sign in first", MailServerRefuses, "MAIL: 530 5.7.0"),
        ("RCPT", "530 5.7.0 sign in first", MailServerRefuses, "RCPT: 530 5.7.0"),
        ("RCPT", "554 5.7.1 <anna@example.test>: Relay access denied", MailServerRefuses, "RCPT: 554 5.7.1"),
        ("RCPT", "550 relay not permitted", MailServerRefuses, "RCPT: 550"),
        ("RCPT", "553 5.1.8 your domain does not exist", MailServerRefuses, "RCPT: 553 5.1.8"),
        ("RCPT", "550 5.4.0 relaying denied", MailServerRefuses, "RCPT: 550 5.4.0"),
        ("RCPT", "503 5.5.1 sequence", MailServerRefuses, "RCPT: 503 5.5.1"),
        ("RCPT", "550 5.3.2 not accepting mail", MailServerRefuses, "RCPT: 550 5.3.2"),
        ("RCPT", "521 no mail here", MailServerRefuses, "RCPT: 521"),
        ("RCPT", "354 go on", MailServerRefuses, "RCPT: 354"),
        ("DATA", "250 done already", MailServerRefuses, "DATA: 250"),
        ("message", "550 5.7.26 DKIM and SPF failed", MailServerRefuses, "the message: 550 5.7.26"),
        # No mail server.
        ("greeting", "HTTP/1.1 400 Bad Request", MailServerLost, "connect: what answers does not speak SMTP"),
        # vert-x3/vertx-mail-client #81: the codes of one answer differ, and the last one counts.
        ("greeting", "220-hello\n521 5.7.1 you are listed", MailServerRefuses, "connect: 521 5.7.1"),
        ("RCPT", "550-no\n550 5.1.1 such user", MailUndeliverable, "RCPT: 550 5.1.1"),
        # RFC 1870, 6.1: the size is the message's.
        ("MAIL", "552 5.3.4 too large", MailUndeliverable, "MAIL: 552 5.3.4"),
        # BytemarkHosting/docker-smtp #5: Postfix refuses our name at RCPT only.
        (
            "RCPT",
            "504 5.5.2 <x>: need fully-qualified hostname",
            MailServerRefuses,
            "RCPT: 504 5.5.2",
        ),
        ("RCPT", "221 bye", MailServerRefuses, "RCPT: 221"),
        ("RCPT", "999 what", MailServerLost, "RCPT: what answers does not speak SMTP"),
    ],
)
async def test_a_refusal_says_whom_it_concerns(step: str, answer: str, error: type[MailError], text: str) -> None:
    """RFC 5321, 4.2.1; RFC 3463; IANA's list of enhanced status codes."""
    to = server({"EHLO": offering("AUTH PLAIN"), step: answer})

    raised = await refused(to, user="user:password@")

    assert (type(raised), str(raised)) == (error, text)


@pytest.mark.parametrize("step", ["EHLO", "MAIL", "RCPT", "DATA", "message"])
async def test_no_address_is_in_the_error_or_behind_it(step: str) -> None:
    """The aiosmtplib errors hold the recipient and the words of the server, which repeat it."""
    answer = f"550 5.1.1 <{ADDRESS}> is not welcome"
    raised = await refused(server({step: answer, "HELO": answer}))

    assert raised.__cause__ is raised.__context__ is None
    assert ADDRESS not in "".join(traceback.format_exception(raised))


@pytest.mark.parametrize("answer", [SILENCE, HANG_UP])
@pytest.mark.parametrize("step", ["greeting", "EHLO", "MAIL", "RCPT", "DATA"])
async def test_a_server_that_is_gone_before_it_had_the_mail_is_lost(step: str, answer: str) -> None:
    raised = await refused(server({step: answer}), timeout=0.2, final_timeout=60)

    assert type(raised) is MailServerLost
    assert str(raised).startswith("connect: " if step == "greeting" else f"{step}: ")


@pytest.mark.parametrize(("answer", "reason"), [(SILENCE, "no answer in time"), (HANG_UP, "the connection is lost")])
async def test_a_server_that_is_gone_with_the_mail_may_have_taken_it(answer: str, reason: str) -> None:
    """RFC 1047: between the dot and the answer nobody knows whether the server has taken the mail."""
    raised = await refused(server({"message": answer}), timeout=60, final_timeout=0.2)

    assert (type(raised), str(raised)) == (MailUnanswered, f"the message: {reason}")


@pytest.mark.parametrize("answer", ["\n250 OK", "hello", "999 what", f"250 {'x' * 40_000}"])
async def test_what_cannot_be_read_behind_the_message_is_no_answer(answer: str) -> None:
    """PHPMailer #1072: an empty line before `250`; the mail was sent again each time, although it had been taken."""
    raised = await refused(server({"message": answer}))

    assert (type(raised), str(raised)) == (MailUnanswered, "the message: what answers does not speak SMTP")


@pytest.mark.parametrize("user", ["us%C3%B6r:p%C3%A4ss%E2%82%AC@", "u%5C:p%2F%25%22%27%20@"])
async def test_user_and_password_may_hold_any_character(user: str) -> None:
    """mealie-recipes/mealie #8397, dani-garcia/vaultwarden #3335, louislam/uptime-kuma #4777; RFC 4616 says UTF-8."""
    async with server({"EHLO": offering("AUTH PLAIN")}).serving() as to:
        await mailer(to, user=user).send(a_mail())

    (line,) = [line for line in to.lines if line.startswith("AUTH PLAIN ")]
    name, _, password = user.removesuffix("@").partition(":")
    assert base64.b64decode(line.split()[2]).decode() == f"\0{unquote(name)}\0{unquote(password)}"


async def test_over_tls_a_password_is_not_hashed(our_ca: Path) -> None:
    """pretix #1347, python/cpython #136134: a server that keeps hashes refuses CRAM-MD5, and some have no MD5."""
    to = server({"EHLO": offering("AUTH CRAM-MD5 LOGIN PLAIN")}, tls=speaking_tls(OURS), is_tls_from_the_start=True)
    async with to.serving():
        await mailer(to, scheme="smtps", ca_path=our_ca, user="user:password@").send(a_mail())

    assert [line.split()[1] for line in to.lines if line.startswith("AUTH")] == ["PLAIN"]


async def test_a_long_name_beyond_ascii_keeps_its_commas() -> None:
    """python/cpython #87720: a name loses its quotes where it is folded, and becomes several mailboxes."""
    name = "Müller, Söhne & Töchter der langen Namen GmbH und Co. KG, Niederlassung Ost"
    values = {"product": "Groundwork", "base_url": "https://groundwork.test/", "email": ADDRESS}
    message = compose("welcome", sender=f"{name} <h@acme.example>", to=ADDRESS, message_id="1", values=values)
    async with server().serving() as to:
        await mailer(to).send(message)

    (sender,) = message_from_bytes(to.messages[0], policy=policy.default)["From"].addresses
    assert (sender.display_name, sender.addr_spec) == (name, "h@acme.example")


async def test_a_slow_server_gets_one_copy() -> None:
    """RFC 5321, 4.5.3.2: each step has its own limit, and the last a longer one: the server processes the mail."""
    async with server(delays={"message": 1}).serving() as to:
        await mailer(to, timeout=0.5).send(a_mail())

    assert len(to.messages) == 1


async def test_each_step_has_the_time_for_itself() -> None:
    """RFC 5321, 4.5.3.2: a client MUST NOT time the transaction as a whole."""
    delays = dict.fromkeys(["greeting", "EHLO", "MAIL", "RCPT", "DATA"], 0.3)
    async with server(delays=delays).serving() as to:
        await mailer(to, timeout=1).send(a_mail())

    assert len(to.messages) == 1


async def test_the_limit_of_a_handler_stands_still_while_a_mail_is_handed_over() -> None:
    async with server(delays={"message": 0.5}).serving() as to, time_limit(timedelta(seconds=0.4)):
        with own_limits():
            await asyncio.gather(*(mailer(to).send(a_mail()) for _ in range(2)))
        await asyncio.sleep(0.01)

    assert len(to.messages) == 2


async def test_nobody_waits_for_the_answer_to_quit() -> None:
    async with server({"QUIT": SILENCE}).serving() as to:
        async with asyncio.timeout(30):
            await mailer(to, timeout=60).send(a_mail())
        await until(lambda: "QUIT" in to.verbs)


async def test_a_connection_is_closed_whatever_became_of_the_mail() -> None:
    async with server({"RCPT": "550 5.1.1 no"}).serving() as to:
        with pytest.raises(MailUndeliverable):
            await mailer(to).send(a_mail())
        async with asyncio.timeout(45):
            await to.hung_up.wait()

    gc.collect()  # a transport that is left open is a warning, and so an error
    assert to.verbs == ["EHLO", "MAIL", "RCPT"]


async def test_a_server_elsewhere_must_offer_tls() -> None:
    """RFC 8314, 3.3: an attacker in between can remove the offer."""
    raised = await refused(server(), tls="verify-full", user="user:password@")

    assert (type(raised), str(raised)) == (MailServerRefuses, "STARTTLS: is not offered")


@pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_what_is_said_over_starttls_is_encrypted(loop: Any, our_ca: Path) -> None:
    async def run() -> ScriptedServer:
        to = server({"EHLO": offering("STARTTLS", "AUTH PLAIN")}, tls=speaking_tls(OURS))
        async with to.serving():
            await mailer(to, tls="verify-full", ca_path=our_ca, user="user:password@").send(a_mail())
            async with asyncio.timeout(45):
                await to.hung_up.wait()
        return to

    to = asyncio.run(run(), loop_factory=loop)

    assert to.lines[:2] == ["EHLO [127.0.0.1]", "STARTTLS"]
    assert all(line.endswith(" (TLS)") for line in to.lines[2:])
    assert to.verbs == ["EHLO", "STARTTLS", "EHLO", "AUTH", "MAIL", "RCPT", "DATA", "QUIT"]


async def test_smtps_is_encrypted_from_its_first_byte(our_ca: Path) -> None:
    to = server(tls=speaking_tls(OURS), is_tls_from_the_start=True)
    async with to.serving():
        await mailer(to, scheme="smtps", ca_path=our_ca).send(a_mail())

    assert all(line.endswith(" (TLS)") for line in to.lines)
    assert len(to.messages) == 1


@pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop])
@pytest.mark.parametrize("scheme", ["smtp", "smtps"])
@pytest.mark.parametrize(
    ("ca", "name", "reason"),
    [
        (THEIRS, "127.0.0.1", "TLS: unable to get local issuer certificate"),
        (OURS, "mail.example.test", "TLS: .*mismatch"),
    ],
)
def test_a_server_that_cannot_prove_its_name_is_told_nothing(
    loop: Any, scheme: str, ca: trustme.CA, name: str, reason: str, our_ca: Path
) -> None:
    to = server(
        {"EHLO": offering("STARTTLS", "AUTH PLAIN")},
        tls=speaking_tls(ca, name),
        is_tls_from_the_start=scheme == "smtps",
    )

    async def run() -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda *_: None)  # the server's side of a handshake that fails
        await refused_for_tls(to, scheme, our_ca, reason)

    asyncio.run(run(), loop_factory=loop)

    assert to.lines in ([], ["EHLO [127.0.0.1]", "STARTTLS"])


async def refused_for_tls(to: ScriptedServer, scheme: str, ca: Path, reason: str) -> None:
    async with to.serving():
        tls = "verify-full" if scheme == "smtp" else None
        with pytest.raises(MailServerRefuses, match=reason):
            await mailer(to, scheme=scheme, tls=tls, ca_path=ca, user="user:password@").send(a_mail())


async def test_tls_with_a_server_that_speaks_none_is_refused_loudly() -> None:
    raised = await refused(server({"EHLO": offering("STARTTLS")}), scheme="smtps")

    assert type(raised) is MailServerRefuses
    assert str(raised).startswith("TLS: ")


@pytest.mark.parametrize(("tls", "verbs"), [(None, ["EHLO", "STARTTLS", "EHLO"]), ("off", ["EHLO", "MAIL", "RCPT"])])
async def test_to_this_machine_tls_is_what_it_offers_unless_it_is_off(tls: str | None, verbs: list[str]) -> None:
    """A server on this machine has a certificate that nobody vouches for, and often takes passwords over TLS alone."""
    async with server({"EHLO": offering("STARTTLS")}, tls=speaking_tls(THEIRS, "other")).serving() as to:
        await mailer(to, tls=tls).send(a_mail())

    assert to.verbs[:3] == verbs


async def test_a_password_is_not_tried_where_nobody_asks_for_it() -> None:
    raised = await refused(server(), user="user:password@")

    assert (type(raised), str(raised)) == (MailServerRefuses, "AUTH: is not offered")


@pytest.mark.parametrize("to", ["jörg@example.test", ADDRESS])
async def test_a_sender_beyond_ascii_needs_smtputf8_from_the_server(to: str) -> None:
    values = {"product": "Groundwork", "base_url": "https://groundwork.test/", "email": to}
    message = compose("welcome", sender="grüße@acme.example", to=to, message_id="1", values=values)
    expected = MailServerRefuses if to.isascii() else MailUndeliverable
    async with server().serving() as without:
        with pytest.raises(expected, match="SMTPUTF8 is not offered"):
            await mailer(without).send(message)

    assert without.verbs == ["EHLO"]


@pytest.mark.parametrize("to", ["a@example.test> SIZE=1", "a@b c.example", "a@<b.example"])
async def test_an_address_cannot_end_its_command(to: str) -> None:
    async with server().serving() as where:
        with pytest.raises(MailUndeliverable, match="cannot be written down"):
            await mailer(where).send(a_mail(to=to))

    assert "RCPT" not in where.verbs
