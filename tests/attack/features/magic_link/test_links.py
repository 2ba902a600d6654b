"""Attacks on links that sign in, over the wire, with the mails that a real worker sends."""

from urllib.parse import urlsplit

from app_auth.testing import Account
from tests.attack.conftest import Connect
from tests.attack.mails import links_to, token_mailed_to
from tests.attack.wire import Wire
from tests.e2e.processes import MailSink, Worker


async def test_programs_that_open_links_use_nothing_up(
    wire: Wire, connect: Connect, ada: Account, worker: Worker, mail_sink: MailSink
) -> None:
    secret = wire.post("/auth/sign-in-link", {"email": ada.email}).json["secret"]
    token = await token_mailed_to(mail_sink, ada.email, "#/sign-in")
    [link] = {each for each in links_to(mail_sink, ada.email) if "#/sign-in" in each}
    scanner = connect()
    for method in ("HEAD", "GET"):  # of what a link leads to, of the routes, and of guesses at them
        for path in (urlsplit(link).path, f"/?token={token}", "/auth/sign-in-link/use", "/console/sign-in/link/open"):
            assert scanner.request(method, path).status in {200, 405}
    assert scanner.post("/auth/sign-in-link/use", {"token": token, "secret": ""}).outcome == (400, "asked_elsewhere")
    wire.reconnect()

    assert wire.post("/auth/sign-in-link/use", {"token": token, "secret": secret}).status == 200
    assert wire.post("/auth/sign-in-link/use", {"token": token, "secret": secret}).outcome == (400, "invalid_link")
