"""Mails: composed from templates, handed over to a real SMTP server."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from email import message_from_bytes, policy
from email.message import EmailMessage
from typing import Any

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult, Envelope
from structlog.testing import capture_logs

from app_auth.mail import MailSettings
from app_auth.one_time import OneTimeTokens
from app_runtime.testing.processes import free_port
from app_worker.mail import (
    ConsoleMailer,
    Mailer,
    Mails,
    MemoryMailer,
    compose,
    open_mailer,
    plain_text,
)
from app_worker.mail_errors import (
    MailDeferred,
    MailError,
    MailServerLost,
    MailServerRefuses,
    MailUnanswered,
    MailUndeliverable,
    Reply,
)
from app_worker.metrics import MAIL_OUTCOMES, Metrics
from app_worker.smtp import SmtpMailer
from app_worker.testing import one_time_settings


def welcome(*, to: str = "ada@example.test", email: str = "ada@example.test") -> EmailMessage:
    values = {"product": "Groundwork", "base_url": "https://groundwork.test/", "email": email}
    return compose("welcome", sender="Groundwork <hello@groundwork.test>", to=to, message_id="1", values=values)


def html(message: EmailMessage) -> str:
    body = message.get_body(("html",))
    assert body is not None
    return str(body.get_content())


def test_a_mail_has_its_subject_from_the_first_line_of_its_text() -> None:
    message = welcome()

    assert message["Subject"] == "Welcome to Groundwork"
    assert plain_text(message).startswith("Hello ada@example.test,\n")


def test_a_mail_says_the_same_as_text_and_as_html() -> None:
    message = welcome()

    assert message.get_content_type() == "multipart/alternative"
    for body in (plain_text(message), html(message)):
        assert "your account is ready" in body
        assert "https://groundwork.test/" in body


def test_a_value_cannot_bring_markup_into_a_mail() -> None:
    message = welcome(email="<b>ada</b>@example.test")

    assert "&lt;b&gt;ada&lt;/b&gt;@example.test" in html(message)
    assert "<b>ada</b>@example.test" in plain_text(message)


def test_a_template_with_a_value_that_is_not_given_is_an_error() -> None:
    with pytest.raises(Exception, match="'product' is undefined"):
        compose("welcome", sender="a@example.test", to="b@example.test", message_id="1", values={})


@pytest.mark.parametrize("address", ["a@example.test\r\nBcc: b@example.test", "a@example.test\n", "a\r@example.test"])
def test_an_address_cannot_add_a_header(address: str) -> None:
    with pytest.raises(MailUndeliverable, match="cannot be written down"):
        welcome(to=address)


def test_an_address_cannot_become_two() -> None:
    (address,) = welcome(to="a@example.test, b@example.test")["To"].addresses

    assert address.username == "a@example.test, b"


@pytest.mark.parametrize("address", ["anna@bücher.example", "anna@BU\u0308CHER.example", "anna@xn--bcher-kva.example"])
async def test_a_domain_is_mailed_as_dns_knows_it(address: str) -> None:
    """RFC 5891, 4.4: A-labels in envelope and header, for a server that knows no SMTPUTF8."""
    sink = Sink()
    with served(sink, enable_SMTPUTF8=False) as port:
        await smtp(port).send(welcome(to=address, email="anna@bücher.example"))

    (envelope,) = sink.envelopes
    assert envelope.rcpt_tos == ["anna@xn--bcher-kva.example"]
    assert b"To: anna@xn--bcher-kva.example\r\n" in sink.content()
    assert envelope.mail_options == [f"SIZE={len(sink.content())}", "BODY=8BITMIME"]


async def test_a_local_part_beyond_ascii_is_mailed_by_a_server_with_smtputf8() -> None:
    """RFC 6531, 3.4: the address goes as it is, and MAIL says SMTPUTF8."""
    sink = Sink()
    with served(sink, enable_SMTPUTF8=True) as port:
        await smtp(port).send(welcome(to="jörg@bücher.example"))

    (envelope,) = sink.envelopes
    assert envelope.rcpt_tos == ["jörg@xn--bcher-kva.example"]
    assert "To: jörg@xn--bcher-kva.example\r\n".encode() in sink.content()
    assert "SMTPUTF8" in envelope.mail_options


async def test_a_server_without_smtputf8_is_not_given_a_local_part_that_it_cannot_carry() -> None:
    sink = Sink()
    with served(sink, enable_SMTPUTF8=False) as port, pytest.raises(MailUndeliverable):
        await smtp(port).send(welcome(to="jörg@example.test"))

    assert sink.envelopes == []


def test_a_mail_says_that_no_person_wrote_it() -> None:
    """RFC 3834, 5: otherwise programs of absent recipients reply to each mail (mastodon/mastodon #23597)."""
    assert welcome(to="ada@example.test")["Auto-Submitted"] == "auto-generated"


async def test_mails_of_one_job_have_one_message_id() -> None:
    mailer = MemoryMailer()
    mails = Mails(mailer, "a@example.test", "https://groundwork.test/", OneTimeTokens(one_time_settings()))

    for _ in range(2):
        await mails.send("welcome", to="b@example.test", message_id="0199", email="b@example.test")

    assert [message["Message-ID"] for message in mailer.sent] == ["<0199@example.test>"] * 2


class Sink:
    """The mails and logins that a mail server got, and its answer."""

    def __init__(self) -> None:
        self.envelopes: list[Envelope] = []
        self.answer = "250 OK"
        self.logins: list[tuple[bytes, bytes]] = []

    async def handle_DATA(self, server: object, session: object, envelope: Envelope) -> str:  # noqa: N802  # aiosmtpd's
        self.envelopes.append(envelope)
        return self.answer

    def content(self) -> bytes:
        """Return the content of the one message that it got."""
        (envelope,) = self.envelopes
        assert isinstance(envelope.content, bytes)
        return envelope.content

    def authenticate(self, server: object, session: object, envelope: object, method: str, data: Any) -> AuthResult:
        self.logins.append((data.login, data.password))
        return AuthResult(success=data.password == b"s3cret/", handled=False)


@contextmanager
def served(sink: Sink, **options: Any) -> Iterator[int]:
    controller = Controller(sink, hostname="127.0.0.1", port=free_port(), **options)
    controller.start()
    try:
        yield controller.port
    finally:
        controller.stop()


def smtp(port: int, *, user: str = "", **settings: Any) -> Mailer:
    return open_mailer(MailSettings.model_validate({"url": f"smtp://{user}127.0.0.1:{port}", **settings}))


async def test_a_mail_is_handed_to_the_mail_server() -> None:
    sink = Sink()
    with served(sink) as port:
        await smtp(port).send(welcome())

    (envelope,) = sink.envelopes
    assert (envelope.mail_from, envelope.rcpt_tos) == ("hello@groundwork.test", ["ada@example.test"])
    assert isinstance(envelope.content, bytes)
    received = message_from_bytes(envelope.content, policy=policy.default)
    assert received["Subject"] == "Welcome to Groundwork"
    assert received["Date"] is not None


async def test_a_mail_to_an_address_beyond_ascii_arrives() -> None:
    sink = Sink()
    with served(sink) as port:
        await smtp(port).send(welcome(to="üser@example.test"))

    assert sink.envelopes[0].rcpt_tos == ["üser@example.test"]


async def test_the_mailer_logs_in_with_the_credentials_of_its_url() -> None:
    sink = Sink()
    with served(sink, auth_require_tls=False, authenticator=sink.authenticate) as port:
        await smtp(port, user="ada%40example:s3cret%2F@").send(welcome())

    assert sink.logins == [(b"ada@example", b"s3cret/")]
    assert len(sink.envelopes) == 1


async def test_a_refused_login_is_an_error() -> None:
    sink = Sink()
    with (
        served(sink, auth_require_tls=False, authenticator=sink.authenticate) as port,
        pytest.raises(MailServerRefuses),
    ):
        await smtp(port, user="ada:wrong@").send(welcome())

    assert sink.envelopes == []


async def test_a_refused_mail_is_an_error() -> None:
    sink = Sink()
    sink.answer = "550 no"
    with served(sink) as port, pytest.raises(MailUndeliverable):
        await smtp(port).send(welcome())


async def test_a_server_that_cannot_be_reached_is_an_error() -> None:
    with pytest.raises(MailServerLost):
        await smtp(free_port()).send(welcome())


async def test_a_server_that_says_nothing_is_an_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]

        with pytest.raises(MailServerLost):
            await smtp(port, timeout="PT0.05S").send(welcome())


async def test_a_mail_that_was_accepted_is_sent_whatever_comes_after() -> None:
    sink = Sink()
    sink.answer = "250 OK\r\n421 and now go away"  # the answer to QUIT, ahead of its time
    with served(sink) as port:
        await smtp(port).send(welcome())

    assert len(sink.envelopes) == 1


async def test_a_mail_is_printed_where_there_is_no_mail_server() -> None:
    mailer = open_mailer(MailSettings())
    assert isinstance(mailer, ConsoleMailer)

    with capture_logs() as logs:
        await mailer.send(welcome())

    assert logs[0]["subject"] == "Welcome to Groundwork"
    assert "https://groundwork.test/" in logs[0]["text"]


def test_an_encrypted_connection_is_a_scheme_of_its_own() -> None:
    assert isinstance(open_mailer(MailSettings.model_validate({"url": "smtps://mail.example.test"})), SmtpMailer)


@pytest.mark.parametrize(
    ("error", "counted", "is_loud"),
    [
        (None, "sent", False),
        (MailUndeliverable("RCPT", Reply(550, "5.1.1")), "undeliverable", False),
        (MailDeferred("RCPT", Reply(450)), "deferred", False),
        (MailServerRefuses("AUTH", Reply(535, "5.7.8")), "server_refuses", True),
        (MailServerLost("connect", "Connection refused"), "unreachable", False),
        (MailUnanswered("the message", "no answer in time"), "unanswered", False),
        (RuntimeError("a mailer of your own"), "failed", False),
    ],
)
async def test_what_the_server_has_against_us_is_loud(error: Exception | None, counted: str, *, is_loud: bool) -> None:
    class Refusing(MemoryMailer):
        async def send(self, message: EmailMessage) -> None:
            if error is not None:
                raise error

    outcomes: list[str] = []
    tokens = OneTimeTokens(one_time_settings())
    mails = Mails(Refusing(), "a@example.test", "https://groundwork.test/", tokens, outcomes.append)

    with capture_logs() as logs, nullcontext() if error is None else pytest.raises(type(error)):
        await mails.send("welcome", to="b@example.test", message_id="0199", email="b@example.test")

    assert outcomes == [counted]
    assert [line["log_level"] for line in logs if line["event"] == "mail_server_refuses"] == ["error"] * is_loud


def test_every_outcome_of_a_mail_is_a_series_from_the_start() -> None:
    metrics = Metrics(kinds=[], queues=[])

    for outcome in MAIL_OUTCOMES:
        assert metrics.registry.get_sample_value("app_mails_total", {"outcome": outcome}) == 0
    metrics.mail("sent")
    assert metrics.registry.get_sample_value("app_mails_total", {"outcome": "sent"}) == 1
    assert {error.outcome for error in MailError.__subclasses__()} < {*MAIL_OUTCOMES}
