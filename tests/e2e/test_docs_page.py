"""The docs pages in a real browser: they show the API, and ask no other host for anything."""

from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from httpx2 import Client

from app_auth.testing import new_key

from .browser import Browser, open_browser
from .processes import Api

HOST = "docs.example.test"  # not localhost, for which Swagger UI makes exceptions


@pytest.fixture(scope="module")
def documented(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """An API that is reached by its own host name; its docs need neither Postgres nor Valkey."""
    key = new_key()
    ring = f'[{{"kid": "{key.kid}", "secret": "{key.secret.get_secret_value()}"}}]'
    environment = {
        "APP_ENV": "development",
        "APP_DATABASE__URL": "postgresql://127.0.0.1:1/none_test",
        "APP_REDIS__URL": "redis://127.0.0.1:1/0",
        "APP_AUTH__KEYS": ring,
        "APP_AUTH__REFRESH_KEYS": ring,
        "APP_AUTH__TOKEN_KEYS": ring,
        "APP_AUTH__PEPPERS": ring,
        "APP_HTTP__ALLOWED_HOSTS": f'["{HOST}"]',
    }
    api = Api(env=environment, log=tmp_path_factory.mktemp("docs") / "log")
    yield api
    api.stop()


@pytest.fixture
def address(documented: Api) -> str:
    """The API's URL with that host name."""
    return documented.url.replace("127.0.0.1", HOST)


@pytest.fixture
def operations(documented: Api) -> int:
    """How many operations the API describes."""
    with Client() as client:
        description = client.get(f"{documented.url}/openapi.json", headers={"Host": HOST}).json()
    return sum(len(methods) for methods in description["paths"].values())


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Browser]:
    """A browser that can reach only the API."""
    with open_browser(tmp_path / "profile", host=HOST) as browser:
        yield browser


@pytest.mark.parametrize(
    ("path", "shown"),
    [("/", ".opblock-summary-method"), ("/redoc", "[data-section-id*='/operation/'], [id*='/paths/']")],
)
def test_a_docs_page_shows_every_operation(
    browser: Browser, address: str, operations: int, path: str, shown: str
) -> None:
    browser.call("Page.navigate", url=f"{address}{path}")

    browser.wait_for(f'document.querySelectorAll("{shown}").length >= {operations}')


@pytest.mark.parametrize(("path", "shown"), [("/", ".opblock"), ("/redoc", "h1")])
def test_no_request_of_a_docs_page_leaves_the_host(browser: Browser, address: str, path: str, shown: str) -> None:
    browser.call("Page.navigate", url=f"{address}{path}")
    browser.wait_for(f'document.querySelectorAll("{shown}").length > 0')

    asked = {urlsplit(url).hostname for url in browser.requests if url.startswith(("http", "ws"))}
    assert asked == {HOST}


def test_an_operation_can_be_tried_out_in_swagger_ui(browser: Browser, address: str) -> None:
    browser.call("Page.navigate", url=f"{address}/#/probe/probe_live")
    for button in (".try-out__btn", ".execute"):
        browser.wait_for(f'document.querySelector("{button}") !== null')
        browser.evaluate(f'document.querySelector("{button}").click()')

    browser.wait_for('document.querySelector(".live-responses-table .microlight")?.innerText === \'"ok"\'')


def test_swagger_ui_has_nothing_to_complain_about(browser: Browser, address: str) -> None:
    browser.call("Page.navigate", url=f"{address}/")

    browser.wait_for('document.querySelectorAll(".opblock").length > 0')
    assert browser.errors == []


def press(browser: Browser, form: str, message: str) -> None:
    """Press the button of a form on the page for links once it is shown, and wait for the message."""
    browser.wait_for(f'document.querySelector("#{form}")?.hidden === false')
    browser.evaluate(f'document.querySelector("#{form} button").click()')
    browser.wait_for(f'document.querySelector("#message").textContent.startsWith("{message}")')


def test_a_mailed_link_is_used_when_somebody_presses_the_button(browser: Browser, address: str) -> None:
    browser.call("Page.navigate", url=f"{address}/#/verify?token=nonsense")
    press(browser, "verify", "The link is not valid")

    asked = [urlsplit(url).path for url in browser.requests]
    assert asked.count("/auth/email/verify") == 1
    assert "token" not in browser.evaluate("location.href")


def test_a_mailed_link_asks_for_the_new_password(browser: Browser, address: str) -> None:
    browser.call("Page.navigate", url=f"{address}/#/reset?token=nonsense")
    browser.wait_for('document.querySelector("#reset")?.hidden === false')
    browser.evaluate('document.querySelector("#password").value = "correct horse battery 42"')
    press(browser, "reset", "The link is not valid")

    asked = [urlsplit(url).path for url in browser.requests]
    assert asked.count("/auth/password/reset") == 1


def test_the_page_for_links_does_nothing_without_one(browser: Browser, address: str) -> None:
    browser.call("Page.navigate", url=f"{address}/links#/constructor?token=x")
    browser.wait_for('document.querySelector("#message")?.textContent.startsWith("There is nothing")')

    assert not [url for url in browser.requests if "/auth/" in url]
