"""The docs pages in a real browser: they show the API, and ask no other host for anything."""

from collections.abc import AsyncIterator, Iterator
from urllib.parse import urlsplit

import pytest
import pytest_asyncio
from httpx2 import Client
from playwright.async_api import Browser, expect

from app_auth.testing import new_key

from .chromium import Watched, open_chromium
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


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def chromium() -> AsyncIterator[Browser]:
    """A browser that can reach only the API."""
    async with open_chromium(host=HOST) as browser:
        yield browser


@pytest_asyncio.fixture(loop_scope="session")
async def seen(chromium: Browser, address: str) -> AsyncIterator[Watched]:
    """A page without a past, and what it asks for."""
    context = await chromium.new_context()
    yield Watched(await context.new_page(), base=address)
    await context.close()


@pytest.mark.parametrize(
    ("path", "shown"),
    [("/", ".opblock-summary-method"), ("/redoc", "[data-section-id*='/operation/'], [id*='/paths/']")],
)
async def test_a_docs_page_shows_every_operation(
    seen: Watched, address: str, operations: int, path: str, shown: str
) -> None:
    await seen.page.goto(f"{address}{path}")

    await seen.page.wait_for_function(f'() => document.querySelectorAll("{shown}").length >= {operations}')


@pytest.mark.parametrize(("path", "shown"), [("/", ".opblock"), ("/redoc", "h1")])
async def test_no_request_of_a_docs_page_leaves_the_host(seen: Watched, address: str, path: str, shown: str) -> None:
    await seen.page.goto(f"{address}{path}")
    await seen.page.locator(shown).first.wait_for()

    asked = {urlsplit(url).hostname for url in seen.requests if url.startswith(("http", "ws"))}
    assert asked == {HOST}


async def test_an_operation_can_be_tried_out_in_swagger_ui(seen: Watched, address: str) -> None:
    await seen.page.goto(f"{address}/#/probe/probe_live")
    for button in (".try-out__btn", ".execute"):
        await seen.page.locator(button).click()

    await expect(seen.page.locator(".live-responses-table .microlight").first).to_have_text('"ok"')


async def test_swagger_ui_has_nothing_to_complain_about(seen: Watched, address: str) -> None:
    await seen.page.goto(f"{address}/")
    await seen.page.locator(".opblock").first.wait_for()

    assert seen.faults == []


def asked_for(seen: Watched, path: str) -> int:
    """Count the requests for a path."""
    return [urlsplit(url).path for url in seen.requests].count(path)


async def test_a_mailed_link_is_used_when_somebody_presses_the_button(seen: Watched, address: str) -> None:
    await seen.page.goto(f"{address}/#/verify?token=nonsense")
    await seen.page.locator("#chosen").fill("correct horse battery 42")
    await seen.page.locator("#verify button").click()

    await expect(seen.page.locator("#message")).to_contain_text("The link is not valid")
    assert asked_for(seen, "/auth/email/verify") == 1
    assert "token" not in seen.page.url


async def test_a_mailed_link_asks_for_the_new_password(seen: Watched, address: str) -> None:
    await seen.page.goto(f"{address}/#/reset?token=nonsense")
    await seen.page.locator("#password").fill("correct horse battery 42")
    await seen.page.locator("#reset button").click()

    await expect(seen.page.locator("#message")).to_contain_text("The link is not valid")
    assert asked_for(seen, "/auth/password/reset") == 1


async def test_the_page_for_links_does_nothing_without_one(seen: Watched, address: str) -> None:
    await seen.page.goto(f"{address}/links#/constructor?token=x")

    await expect(seen.page.locator("#message")).to_contain_text("There is nothing")
    assert not [url for url in seen.requests if "/auth/" in url]
