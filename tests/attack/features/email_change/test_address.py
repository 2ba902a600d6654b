"""Attacks on the address of an account, over the wire, with the mails that a real worker sends."""

import pytest

from app_auth.testing import Account
from tests.attack.conftest import Connect, an_email
from tests.attack.mails import token_mailed_to
from tests.attack.wire import Reply, Wire
from tests.e2e.processes import MailSink, Worker

CHANGE = "/auth/email/change"


async def changed(wire: Wire, access: str, mail_sink: MailSink, *, to: str) -> Reply:
    """Change an address as whoever has the access token and the mailbox of the new one."""
    assert wire.post(CHANGE, {"email": to}, headers={"Authorization": f"Bearer {access}"}).status == 202
    token = await token_mailed_to(mail_sink, to, "#/change-email")
    wire.reconnect()
    return wire.post(f"{CHANGE}/confirm", {"token": token}, headers={"Authorization": f"Bearer {access}"})


async def test_an_address_is_stolen_twice_and_comes_back(
    wire: Wire, connect: Connect, ada: Account, worker: Worker, mail_sink: MailSink
) -> None:
    access, _ = wire.tokens(ada.email, ada.password)  # the thief's, for as long as it takes
    eve, eves_other = an_email(), an_email()
    assert (await changed(wire, access, mail_sink, to=eve)).status == 204
    assert (await changed(wire, access, mail_sink, to=eves_other)).status == 204
    first = await token_mailed_to(mail_sink, ada.email, "undo-email-change")
    second = await token_mailed_to(mail_sink, eve, "undo-email-change")
    wire.reconnect()
    assert wire.login(ada.email, ada.password).status == 400

    assert wire.post(f"{CHANGE}/undo", {"token": first}).status == 204

    assert wire.me(access).outcome == (401, "invalid_token")
    assert wire.post(f"{CHANGE}/undo", {"token": second}).outcome == (400, "invalid_link")
    assert wire.login(ada.email, ada.password).status == 400  # the thief may know it
    reset = await token_mailed_to(mail_sink, ada.email, "reset")
    wire.reconnect()
    new = "an entirely new horse 43"
    assert wire.post("/auth/password/reset", {"token": reset, "new_password": new}).status == 204
    assert wire.login(ada.email, new).status == 200
    assert connect().login(eves_other, new).status == 400


async def test_a_reset_that_was_mailed_before_a_change_is_worth_nothing_after(
    wire: Wire, connect: Connect, ada: Account, worker: Worker, mail_sink: MailSink
) -> None:
    """Somebody who reads the old mailbox asked for a link there, and kept it."""
    connect().post("/auth/password/forgot", {"email": ada.email})
    reset = await token_mailed_to(mail_sink, ada.email, "#/reset")
    wire.reconnect()
    access, _ = wire.tokens(ada.email, ada.password)

    assert (await changed(wire, access, mail_sink, to=an_email())).status == 204

    body = {"token": reset, "new_password": "chosen by the thief 47"}
    assert connect().post("/auth/password/reset", body).outcome == (400, "invalid_link")


async def test_a_sign_in_that_was_mailed_before_a_change_is_worth_nothing_after(
    wire: Wire, connect: Connect, ada: Account, worker: Worker, mail_sink: MailSink
) -> None:
    pytest.importorskip("app_api.features.magic_link")
    secret = connect().post("/auth/sign-in-link", {"email": ada.email}).json["secret"]
    link = await token_mailed_to(mail_sink, ada.email, "#/sign-in")
    wire.reconnect()
    access, _ = wire.tokens(ada.email, ada.password)

    assert (await changed(wire, access, mail_sink, to=an_email())).status == 204

    used = connect().post("/auth/sign-in-link/use", {"token": link, "secret": secret})
    assert used.outcome == (400, "invalid_link")


async def test_who_gets_the_mail_of_a_change_by_mistake_gets_no_account(
    wire: Wire, connect: Connect, ada: Account, worker: Worker, mail_sink: MailSink
) -> None:
    access, _ = wire.tokens(ada.email, ada.password)
    stranger = an_email()
    assert wire.post(CHANGE, {"email": stranger}, headers={"Authorization": f"Bearer {access}"}).status == 202
    token = await token_mailed_to(mail_sink, stranger, "#/change-email")
    other = connect()

    assert other.post(f"{CHANGE}/confirm", {"token": token}).outcome == (400, "invalid_grant")
    assert other.post("/auth/password/forgot", {"email": stranger}).status == 202

    wire.reconnect()
    assert wire.me(access).json["email"] == ada.email
