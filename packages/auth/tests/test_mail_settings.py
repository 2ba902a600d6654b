"""The settings of mail: one mailbox, a URL that is read whole, and TLS to other machines."""

from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import pytest
from pydantic import BaseModel, ValidationError

from app_auth.mail import MailSettings, read_mailbox
from app_runtime.configuration import Misconfigured, load


class Settings(BaseModel):
    mail: MailSettings = MailSettings()


def given(**environ: str) -> MailSettings:
    return load(Settings, {f"APP_MAIL__{name}": text for name, text in environ.items()}).mail


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("no-reply@example.com", "no-reply@example.com"),
        ("<no-reply@example.com>", "no-reply@example.com"),
        ("Groundwork <no-reply@localhost>", "Groundwork <no-reply@localhost>"),
        ("Acme, Inc. <no-reply@example.com>", '"Acme, Inc." <no-reply@example.com>'),
        ('"Acme, Inc." <no-reply@example.com>', '"Acme, Inc." <no-reply@example.com>'),
        (r'"Acme \"Best\", Inc." <a@example.com>', r'"Acme \"Best\", Inc." <a@example.com>'),
        ('Acme "Best" <a@example.com>', r'"Acme \"Best\"" <a@example.com>'),
        ('"a@b" <c@example.com>', '"a@b" <c@example.com>'),
        ("  Grüße GmbH  < grüße@Bücher.example > ", "Grüße GmbH <grüße@xn--bcher-kva.example>"),
    ],
)
def test_a_sender_is_one_mailbox_and_quoted_by_us(text: str, written: str) -> None:
    """RFC 5322, 3.4: `Acme, Inc. <…>` is two mailboxes unless the name is quoted."""
    assert given(FROM=text).sender == written
    assert str(read_mailbox(written)) == written


@pytest.mark.parametrize(
    "text",
    [
        "Acme",
        "a@example.com, b@example.com",
        "A <a@example.com>, B <b@example.com>",
        "a@example.com, B <b@example.com>",
        "Acme: a@example.com, b@example.com;",
        '"Acme", B <b@example.com>',
        "Acme <a@example.com> B",
        "Acme <a@@example.com>",
        "Acme <a b@example.com>",
        "Acme <.a@example.com>",
        "Acme <@example.com>",
        f"{'a' * 65}@example.com",
        "a@",
        "a@exa_mple.com",
        "a@-example.com",
        "a@exa\u2028mple.com",
        "Acme\r\nBcc: <b@example.com>",
        "a@\u200bexample.com",
        "a@b\u00fcc her.example",
    ],
)
def test_what_is_not_exactly_one_mailbox_is_refused_by_name(text: str) -> None:
    with pytest.raises(Misconfigured, match=r"^APP_MAIL__FROM: must be one (mailbox|line)"):
        given(FROM=text)


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("sendmail://localhost", "must start with smtp:// or smtps:// or console://"),
        ("mail.example.com", "must start with"),
        ("smtp://u:n0tshown/x@mail.example.com:587", "has / . or # before its last @"),
        ("smtp://u:n0tshown#x@mail.example.com:587", "has / . or # before its last @"),
        ("smtp://u:n0tshown@mail.example.com:smtp", "has a port that is no number"),
        ("smtp://u:n0tshown@mail.example.com:99999", "has a port that is no number"),
        ("smtp://u:n0tshown@:587", "names no host"),
        ("smtp://", "names no host"),
        ("smtp://u:n0tshown@mail.example.com/inbox", "must have nothing behind the host"),
        ("smtp://u:n0tshown@mail.example.com?tls=off", "must have nothing behind the host"),
        ("smtp://u:n0tshown@mail.example.com#top", "must have nothing behind the host"),
        ("smtp://u@mail.example.com", "must have a user and a password"),
        ("smtp://u:@mail.example.com", "must have a user and a password"),
        ("smtp://:n0tshown@mail.example.com", "must have a user and a password"),
        ("console://mail.example.com", "must be console:// and nothing else"),
        ("console://u@", "must be console:// and nothing else"),
    ],
)
def test_a_url_that_cannot_be_meant_is_refused_by_name_and_not_shown(url: str, reason: str) -> None:
    with pytest.raises(Misconfigured, match=f"^APP_MAIL__URL: {reason}") as refused:
        given(URL=url)

    assert "n0tshown" not in str(refused.value)


@pytest.mark.parametrize("url", ["smtp://ada%40example:s%2Fcret@mail.example.com/", "smtps://mail", "console:///"])
def test_what_is_encoded_is_taken(url: str) -> None:
    assert given(URL=url).url.get_secret_value() == url


@pytest.mark.parametrize("name", ["worker.example.com", "xn--bcher-kva.example", "[192.0.2.1]", "[IPv6:2001:db8::1]"])
def test_we_are_called_by_a_full_name_or_an_address(name: str) -> None:
    assert given(EHLO_NAME=name).ehlo_name == name


@pytest.mark.parametrize(
    "name",
    ["localhost", "worker-5d9f", "192.0.2.1 x", "[mail.example.com]", "[2001:db8::1]", "bücher.example", "a..b"],
)
def test_any_other_name_of_ours_is_refused(name: str) -> None:
    """RFC 5321, 4.1.4."""
    with pytest.raises(Misconfigured, match=r"^APP_MAIL__EHLO_NAME: must"):
        given(EHLO_NAME=name)


@pytest.mark.parametrize(
    ("url", "tls", "is_required"),
    [
        ("smtp://mail.example.com", None, True),
        ("smtp://192.0.2.7:25", None, True),
        ("smtp://mail.example.com", "off", False),
        ("smtp://localhost:1025", None, False),
        ("smtp://127.0.0.1:1025", None, False),
        ("smtp://[::1]:1025", None, False),
        ("smtp://localhost:1025", "verify-full", True),
        ("smtps://localhost", None, True),
        ("smtps://mail.example.com", "verify-full", True),
        ("console://", None, False),
    ],
)
def test_mail_has_the_rule_of_the_database_about_tls(url: str, tls: str | None, *, is_required: bool) -> None:
    settings = MailSettings.model_validate({"url": url, "tls": tls})

    assert settings.requires_tls is is_required
    assert settings.tls_context().check_hostname is is_required


def test_tls_that_is_off_and_smtps_contradict_each_other() -> None:
    with pytest.raises(Misconfigured, match=r"^APP_MAIL__TLS: is off, and APP_MAIL__URL says smtps://$"):
        given(URL="smtps://mail.example.com", TLS="off")


def test_a_file_without_a_certificate_vouches_for_nobody(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("none")

    with pytest.raises(Misconfigured, match=r"^APP_MAIL__CA_PATH: holds no certificate \(PEM\) that can be read$"):
        given(CA_PATH=str(tmp_path / "ca.pem"))


@pytest.mark.parametrize(
    ("url", "tls", "lines"),
    [
        ("console://", None, ["APP_MAIL__URL: would print mails, and the links in them"]),
        ("smtp://mail.example.com", "off", []),
        ("smtp://u:p@127.0.0.1:25", None, []),
        ("smtp://u:p@mail.example.com", None, []),
        (
            "smtp://u:p@mail.example.com",
            "off",
            ["APP_MAIL__TLS: is off, so the password in APP_MAIL__URL would be sent in the clear"],
        ),
    ],
)
def test_production_sends_no_password_in_the_clear(url: str, tls: str | None, lines: list[str]) -> None:
    """RFC 8314, 3.3."""
    assert list(MailSettings.model_validate({"url": url, "tls": tls}).weaknesses()) == lines


@pytest.mark.parametrize(("text", "is_time"), [("30", True), ("PT1H", True), ("0", False), ("-1", False)])
@pytest.mark.parametrize("name", ["TIMEOUT", "FINAL_TIMEOUT"])
def test_a_limit_is_a_time(name: str, text: str, *, is_time: bool) -> None:
    taken: AbstractContextManager[object] = nullcontext() if is_time else pytest.raises(Misconfigured)
    with taken:
        given(**{name: text})


def test_an_error_does_not_show_what_was_given() -> None:
    with pytest.raises(ValidationError) as refused:
        MailSettings.model_validate({"url": "smtp://u:n0tshown@"})

    assert "n0tshown" not in str(refused.value)
