"""The mails that a development machine has caught: shown there, and nowhere else."""

from collections.abc import AsyncIterator
from email.message import EmailMessage
from pathlib import Path

import pytest
import pytest_asyncio

from app_api.console.development import mails
from app_api.settings import ApiSettings, ConsoleSettings
from app_api.testing import run_lifespan
from app_auth.testing import Account
from app_db import Database
from app_runtime.configuration import Environment
from packages.api.tests.conftest import Browser, app_of, browser_of
from packages.api.tests.console.live_parts import marks_of, texts_of

EVIL = "<script>alert(1)</script>"
CAUGHT = "20261129-230000-000001-confirm.eml"


@pytest.fixture
def mailbox(tmp_path: Path) -> Path:
    """A folder with a mail, one without HTML, one in a character set that nobody knows, and a template."""
    message = EmailMessage()
    message["Subject"], message["To"], message["From"] = f"Confirm {EVIL}", "ada@example.com", "no-reply@example.com"
    message.set_content(f"Hello {EVIL}\nhttps://example.com/#/verify?token=t1 https://example.com/#/verify?token=t1")
    message.add_alternative(f"<html><head><title>x</title></head><body>{EVIL}<b>Hi</b></body></html>", subtype="html")
    (tmp_path / CAUGHT).write_bytes(message.as_bytes())
    (tmp_path / "1-plain.eml").write_text("Subject: Plain\n\nno HTML")
    (tmp_path / "2-odd.eml").write_bytes(b"Content-Type: text/html; charset=klingon\n\n<p>Qapla'")
    (tmp_path / "3-none.eml").write_bytes(b"Content-Type: image/png\n\n")
    (tmp_path / "secret.txt").write_text("no mail")
    (tmp_path / "samples").mkdir()
    (tmp_path / "samples/verify.eml").write_bytes(message.as_bytes())
    return tmp_path


def settings_of(settings: ApiSettings, folder: Path | None, env: Environment = Environment.DEVELOPMENT) -> ApiSettings:
    console = ConsoleSettings(enabled=True, mail_folder=folder)
    return settings.model_copy(update={"env": env, "console": console})


@pytest_asyncio.fixture(loop_scope="session")
async def developer(api_settings: ApiSettings, mailbox: Path) -> AsyncIterator[Browser]:
    """A browser without cookies where `make dev` runs."""
    app = app_of(settings_of(api_settings, mailbox))
    async with run_lifespan(app) as state, browser_of(app, state) as browser:
        yield browser


async def test_each_mail_is_shown_with_its_text_and_links(developer: Browser) -> None:
    listed = (await developer.get("/console/mails")).text
    shown = await developer.get(f"/console/mails/{CAUGHT}")

    assert f'href="/console/mails/{CAUGHT}"' in listed
    assert 'href="/console/mails/verify.eml"' in listed
    assert "Sign in" in listed
    for page in (listed, shown.text):
        assert EVIL not in page
    assert shown.text.count('href="https://example.com/#/verify?token=t1"') == 1
    assert f'src="/console/mails/{CAUGHT}/html"' in shown.text
    policy = shown.headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; script-src 'self'")
    assert "frame-src 'self'" in policy
    assert "frame-src" not in (await developer.get("/console/mails")).headers["Content-Security-Policy"]
    assert "Mails that were caught" in (await developer.get("/console/sign-in")).text


async def test_a_mail_runs_nothing_and_loads_nothing_in_its_frame(developer: Browser) -> None:
    frame = await developer.get(f"/console/mails/{CAUGHT}/html")

    assert '<head><base target="_blank">' in frame.text
    policy = frame.headers["Content-Security-Policy"].split("; ")
    assert policy[0] == "sandbox allow-popups allow-popups-to-escape-sandbox"
    assert {"default-src 'none'", "form-action 'none'", "frame-ancestors 'self'"} < set(policy)
    assert not any(part.startswith("script-src") for part in policy)


async def test_mails_of_other_shapes_are_shown_too(developer: Browser) -> None:
    plain, odd = [(await developer.get(f"/console/mails/{name}")).text for name in ("1-plain.eml", "2-odd.eml")]
    none = await developer.get("/console/mails/3-none.eml")

    assert "no HTML" in plain
    assert "iframe" not in plain
    assert "iframe" in odd
    assert "Qapla" in (await developer.get("/console/mails/2-odd.eml/html")).text
    assert none.status_code == 200
    assert (await developer.get("/console/mails/1-plain.eml/html")).status_code == 404


@pytest.mark.parametrize("name", ["secret.txt", "gone.eml", "..%2fsecret.txt", "%2e%2e%2fx.eml", "A.eml", "samples"])
async def test_no_file_but_a_mail_is_shown(developer: Browser, name: str) -> None:
    for path in (f"/console/mails/{name}", f"/console/mails/{name}/html"):
        assert (await developer.get(path)).status_code == 404, path


async def test_who_is_signed_in_stays_so_and_an_ended_session_is_a_visitor(developer: Browser, ada: Account) -> None:
    await developer.sign_in(ada)
    signed_in = (await developer.get("/console/mails")).text
    cookies = "; ".join(f"{name}=bs_broken" for name in developer.client.cookies)
    developer.client.cookies.clear()

    assert ada.email in signed_in
    assert ada.email not in (await developer.get("/console/mails", Cookie=cookies)).text


async def test_many_mails_are_listed_up_to_a_number(
    developer: Browser, mailbox: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mails, "MOST", 2)
    (mailbox / "samples/verify.eml").unlink()

    page = (await developer.get("/console/mails")).text

    assert "The newest 2." in page
    assert "1-plain.eml" not in page
    assert "No templates yet." in page


@pytest.mark.parametrize("env", [Environment.PRODUCTION, Environment.TEST])
async def test_caught_mails_are_for_development_only(
    api_settings: ApiSettings, mailbox: Path, env: Environment
) -> None:
    for settings in (settings_of(api_settings, mailbox, env), settings_of(api_settings, None)):
        app = app_of(settings)
        async with run_lifespan(app) as state, browser_of(app, state) as browser:
            for path in ("", f"/{CAUGHT}", f"/{CAUGHT}/html"):
                assert (await browser.get(f"/console/mails{path}")).status_code == 404
            assert "Mails" not in (await browser.get("/console/sign-in")).text


async def test_the_list_is_followed_by_who_is_signed_in(
    api_settings: ApiSettings, mailbox: Path, ada: Account, database: Database
) -> None:
    app = app_of(settings_of(api_settings, mailbox))
    async with run_lifespan(app) as state, browser_of(app, state) as browser:
        visited = (await browser.get("/console/mails")).text
        await browser.sign_in(ada)
        (mark,) = marks_of((await browser.get("/console/mails")).text)
        (mailbox / "9-new.eml").write_text("Subject: Just caught\n\nhello")

        texts = await texts_of(app, database, mark, viewer_id=ada.id)

    assert marks_of(visited) == []  # a stream would have nobody to follow
    assert "Just caught" in texts[mark]
