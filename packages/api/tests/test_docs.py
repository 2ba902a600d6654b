"""Swagger UI, ReDoc and openapi.json. That a browser really stays on the host is tests/e2e/test_docs_page.py."""

import re

import pytest
from fastapi import FastAPI
from httpx2 import AsyncClient

from app_api.settings import ApiSettings
from app_api.testing import open_client
from packages.api.tests.conftest import app_of

DOCS = ("/", "/redoc", "/openapi.json", "/docs-assets/swagger.js", "/docs-assets/vendor/swagger-ui-bundle.js")


@pytest.mark.parametrize("path", ["/", "/redoc"])
async def test_a_docs_page_refers_to_our_own_assets_only(client: AsyncClient, path: str) -> None:
    page = await client.get(path)

    references = re.findall(r'(?:src|href|spec-url)="([^"]*)"', page.text)
    assert page.headers["Content-Type"] == "text/html; charset=utf-8"
    assert references
    assert "//" not in page.text.replace("<!doctype html>", "")
    assert {(await client.get(reference)).status_code for reference in references} == {200}


@pytest.mark.parametrize("path", ["/", "/redoc"])
async def test_a_docs_page_may_load_nothing_from_elsewhere(client: AsyncClient, path: str) -> None:
    page = await client.get(path)

    policy = dict(part.strip().split(" ", 1) for part in page.headers["Content-Security-Policy"].split(";"))
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == "'self'"
    assert policy["connect-src"] == "'self'"
    assert policy["frame-ancestors"] == "'none'"
    assert not re.search(r"<script>|\son\w+=", page.text)


@pytest.mark.parametrize(
    ("path", "media_type"),
    [
        ("/docs-assets/swagger.js", "text/javascript"),
        ("/docs-assets/vendor/swagger-ui-bundle.js", "text/javascript"),
        ("/docs-assets/vendor/redoc.standalone.js", "text/javascript"),
        ("/docs-assets/vendor/swagger-ui.css", "text/css"),
    ],
)
async def test_the_assets_are_served(client: AsyncClient, path: str, media_type: str) -> None:
    response = await client.get(path)

    assert response.status_code == 200
    assert response.headers["Content-Type"].startswith(media_type)
    assert response.content


@pytest.mark.parametrize(
    ("env", "http", "status"),
    [
        ("production", {}, 404),
        ("production", {"docs": False}, 404),
        ("production", {"docs": True}, 200),
        ("development", {}, 200),
        ("development", {"docs": False}, 404),
    ],
)
async def test_docs_are_off_in_production_unless_enabled(
    api_settings: ApiSettings,
    env: str,
    http: dict[str, bool],
    status: int,
) -> None:
    auth = api_settings.auth.model_copy(update={"verification": True})  # production starts with nothing less
    settings = ApiSettings.model_validate(api_settings.model_dump() | {"env": env, "http": http, "auth": auth})

    async with open_client(app_of(settings)) as client:
        statuses = {(await client.get(path)).status_code for path in DOCS if path != "/"}
        root = await client.get("/")

    assert statuses == {status}
    assert ("swagger" in root.text) == (status == 200)  # else the page for links in mails


def test_every_operation_describes_its_errors_as_problems(shared_app: FastAPI) -> None:
    operations = [operation for path in shared_app.openapi()["paths"].values() for operation in path.values()]

    for operation in operations:
        errors = {status: of for status, of in operation["responses"].items() if status[0] not in "23"}
        assert {"default", "422"} <= set(errors)
        for error in errors.values():
            assert list(error["content"]) == ["application/problem+json"]
            assert error["content"]["application/problem+json"]["schema"] == {"$ref": "#/components/schemas/Problem"}


def test_every_operation_with_a_token_describes_its_refusal(shared_app: FastAPI) -> None:
    operations = [operation for path in shared_app.openapi()["paths"].values() for operation in path.values()]

    secured = [operation for operation in operations if "security" in operation]

    assert len(secured) >= 7
    assert all("401" in operation["responses"] for operation in secured)


def test_a_described_error_carries_its_code_and_sentence(shared_app: FastAPI) -> None:
    login = shared_app.openapi()["paths"]["/auth/access-token"]["post"]

    examples = login["responses"]["400"]["content"]["application/problem+json"]["examples"]

    assert examples["invalid_grant"]["value"] == {
        "type": "about:blank",
        "title": "Bad Request",
        "status": 400,
        "detail": "Incorrect email or password",
        "code": "invalid_grant",
    }


async def test_every_reference_of_the_description_leads_somewhere(client: AsyncClient) -> None:
    description = await client.get("/openapi.json")

    referred = set(re.findall(r'"#/components/schemas/([^"]*)"', description.text))
    assert description.json()["openapi"].startswith("3.1")
    assert referred
    assert referred <= set(description.json()["components"]["schemas"])


async def test_the_description_holds_no_secret(client: AsyncClient, api_settings: ApiSettings) -> None:
    description = await client.get("/openapi.json")

    assert api_settings.auth.keys[0].secret.get_secret_value() not in description.text
    assert "postgresql" not in description.text
