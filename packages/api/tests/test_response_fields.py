"""Responses carry the fields that the document declares, and no others."""

import re
from typing import Any

from fastapi import FastAPI
from httpx2 import AsyncClient, Response

from app_api.http_names import RESPONSE_HEADERS
from app_api.settings import ApiSettings
from app_api.testing import SignedIn, open_client
from app_auth.limits import ThrottleSettings
from app_auth.testing import PASSWORD, new_key
from app_runtime.testing.processes import free_port
from packages.api.tests.conftest import app_of

JSON = {"Content-Type": "application/json"}
ANYBODY, USER, OPERATOR = "anybody", "user", "operator"
NOBODY = "00000000-0000-7000-8000-000000000000"
CASES: list[tuple[str, str, str, dict[str, Any], int]] = [
    ("GET", "/probe/live", ANYBODY, {}, 200),
    ("HEAD", "/probe/ready", ANYBODY, {}, 200),
    ("GET", "/auth/me", USER, {}, 200),
    ("GET", "/auth/me", ANYBODY, {}, 401),
    ("GET", "/auth/me", ANYBODY, {"headers": {"Authorization": "Bearer nonsense"}}, 401),
    ("PUT", "/auth/me", USER, {}, 405),
    ("POST", "/auth/logout", ANYBODY, {}, 401),
    ("GET", "/auth/sessions", USER, {}, 200),
    ("DELETE", f"/auth/sessions/{NOBODY}", USER, {}, 404),
    ("GET", "/jobs/queues", USER, {}, 403),
    ("GET", "/jobs/queues", OPERATOR, {}, 200),
    ("GET", f"/jobs/{NOBODY}", USER, {}, 404),
    ("GET", "/jobs/x", USER, {}, 422),
    ("POST", "/auth/register", ANYBODY, {"json": {}}, 422),
    ("POST", "/auth/register", ANYBODY, {"content": b"{", "headers": JSON}, 400),
    ("POST", "/auth/register", ANYBODY, {"content": b"x", "headers": {"Content-Type": "text/plain"}}, 415),
    ("POST", "/auth/register", ANYBODY, {"content": b"x", "headers": {"Content-Encoding": "br"}}, 415),
    ("POST", "/auth/register", ANYBODY, {"content": b" " * 100_000, "headers": JSON}, 413),
    ("POST", "/auth/access-token", ANYBODY, {"data": {"username": "a@example.test", "password": "x" * 20}}, 400),
    ("POST", "/auth/logout", USER, {}, 204),
]


def check(document: dict[str, Any], response: Response) -> None:
    """Fail unless the answer carries what its operation and status declare, and only that."""
    request = response.request
    templates = [
        path
        for path, operations in document["paths"].items()
        if re.fullmatch(re.sub(r"{\w+}", "[^/]+", path), request.url.path)
    ]
    operations = document["paths"][min(templates, key=lambda path: path.count("{"))]
    method = "get" if request.method == "HEAD" else request.method.lower()
    operation = operations.get(method) or next(iter(operations.values()))
    declared = operation["responses"].get(str(response.status_code)) or operation["responses"]["default"]
    fields = declared["headers"]
    carried = {name for name in RESPONSE_HEADERS if name in response.headers}
    assert carried <= fields.keys(), (request.method, request.url.path, response.status_code)
    assert {name for name, field in fields.items() if field["required"]} <= carried


async def test_an_answer_carries_what_the_document_says(
    app: FastAPI, client: AsyncClient, signed_in: SignedIn, operator: SignedIn
) -> None:
    """OpenAPI 3.1, 4.8.17: a generated client sees the fields that the document has, and no others."""
    document = app.openapi()
    headers = {ANYBODY: {}, USER: signed_in.headers, OPERATOR: operator.headers}

    for method, path, who, how, status in CASES:
        response = await client.request(method, path, **{"headers": headers[who], **how})

        assert response.status_code == status, (method, path)
        check(document, response)


async def test_an_outage_carries_what_the_document_says(api_settings: ApiSettings, signed_in: SignedIn) -> None:
    nowhere = {"url": f"postgresql://app@127.0.0.1:{free_port()}/gone_test"}
    app = app_of(ApiSettings.model_validate(api_settings.model_dump() | {"database": nowhere}))

    async with open_client(app) as client:
        for path in ("/auth/me", "/probe/health", "/probe/ready", "/jobs"):
            response = await client.get(path, headers=signed_in.headers)

            assert response.status_code == 503
            check(app.openapi(), response)


async def test_a_throttle_carries_what_the_document_says(api_settings: ApiSettings) -> None:
    auth = api_settings.auth.model_copy(update={"peppers": (new_key(),)})
    throttle = ThrottleSettings(one_time_ip="1/h")
    app = app_of(api_settings.model_copy(update={"auth": auth, "throttle": throttle}))

    async with open_client(app) as client:
        body = {"token": "x" * 100, "password": PASSWORD}
        answers = [await client.post("/auth/email/verify", json=body) for _ in range(2)]

    assert answers[-1].status_code == 429
    for answer in answers:
        check(app.openapi(), answer)


async def test_every_operation_declares_what_all_answers_carry(app: FastAPI) -> None:
    for operations in app.openapi()["paths"].values():
        for operation in operations.values():
            for response in operation["responses"].values():
                assert response["headers"]["X-Request-ID"]["required"]
