"""Every error is a problem document with a request id, and never repeats the input."""

from typing import Annotated, Literal

import pytest
import structlog
from fastapi import FastAPI, Form
from httpx2 import AsyncClient
from pydantic import BaseModel
from structlog.testing import capture_logs

from app_api.settings import ApiSettings
from app_api.testing import SignedIn, assert_problem, open_client
from app_runtime.testing.processes import free_port
from packages.api.tests.conftest import app_of

SECRET = "do-not-repeat-me"


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/nowhere", 404, "not_found"),
        ("GET", "/auth/me/", 404, "not_found"),
        ("GET", "/docs", 404, "not_found"),
        ("GET", "/docs-assets/nothing.js", 404, "not_found"),
        ("GET", "/docs-assets/vendor/..%2f..%2f__init__.py", 404, "not_found"),
        ("GET", "/%00", 422, "invalid_text"),
        ("GET", "/auth/me?a=%00", 422, "invalid_text"),
        ("PUT", "/auth/me", 405, "method_not_allowed"),
        ("OPTIONS", "/auth/me", 405, "method_not_allowed"),
        ("TRACE", "/auth/me", 405, "method_not_allowed"),
        ("FOO", "/auth/me", 405, "method_not_allowed"),
        ("POST", "/docs-assets/swagger.js", 405, "method_not_allowed"),
        ("GET", "/auth/me", 401, "not_authenticated"),
        ("POST", "/auth/register", 422, "validation_failed"),
    ],
)
async def test_an_error_of_the_framework_is_a_problem(
    client: AsyncClient, method: str, path: str, status: int, code: str
) -> None:
    response = await client.request(method, path)

    assert_problem(response, status, code)


@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        ("/auth/me", "DELETE, GET, HEAD"),
        ("/auth/register", "POST"),
        ("/probe/live", "GET, HEAD"),
        ("/docs-assets/swagger.js", "GET, HEAD"),
        ("/", "GET, HEAD"),
        ("/jobs/01a206e8-b163-760e-b415-9ddc1344d69c", "DELETE, GET, HEAD"),
    ],
)
async def test_a_refused_method_is_told_every_allowed_one(client: AsyncClient, path: str, allowed: str) -> None:
    response = await client.request("PATCH", path)

    assert_problem(response, 405, "method_not_allowed")
    assert response.headers["Allow"] == allowed


@pytest.mark.parametrize("path", ["/probe/live", "/probe/health", "/probe/ready", "/auth/me", "/jobs", "/", "/redoc"])
async def test_head_has_the_status_and_headers_of_get(client: AsyncClient, signed_in: SignedIn, path: str) -> None:
    headers = signed_in.headers | {"X-Request-ID": "same"}

    head = await client.head(path, headers=headers)

    get = await client.get(path, headers=headers)
    assert head.status_code == 200
    assert head.headers == get.headers


@pytest.mark.parametrize("path", ["/x%3Fy%23z", "/caf%C3%A9", "/a%2Fb", "/auth/me/", "/%41"])
async def test_the_instance_of_a_problem_is_the_path_as_it_came(client: AsyncClient, path: str) -> None:
    """RFC 9457, 3.1.5: a URI reference; decoded, `/x%3Fy%23z` would be a path, a query and a fragment."""
    response = await client.get(f"{path}?secret=1")

    assert assert_problem(response, 404, "not_found")["instance"] == path


async def test_invalid_values_are_named_but_not_repeated(client: AsyncClient) -> None:
    body = {"email": 5, SECRET: SECRET, "a/b~c": {"x": SECRET}}

    response = await client.post("/auth/register", json=body)

    problem = assert_problem(response, 422, "validation_failed")
    assert [(error["pointer"], error["code"]) for error in problem["errors"]] == [
        ("#/email", "string_type"),
        ("#/password", "missing"),
        (f"#/{SECRET}", "extra_forbidden"),
        ("#/a~1b~0c", "extra_forbidden"),
    ]
    assert all(set(error) == {"pointer", "code", "detail"} for error in problem["errors"])
    assert response.text.count(SECRET) == 1


@pytest.mark.parametrize("body", [f'"{SECRET}"', f'["{SECRET}"]', "null", "1", f'{{"email": {{"{SECRET}": 1}}}}'])
async def test_a_body_of_the_wrong_shape_is_not_repeated(client: AsyncClient, body: str) -> None:
    response = await client.post("/auth/register", content=body, headers={"Content-Type": "application/json"})

    assert_problem(response, 422, "validation_failed")
    assert SECRET not in response.text


async def test_a_value_that_a_parser_quotes_is_not_repeated(client: AsyncClient, signed_in: SignedIn) -> None:
    response = await client.get("/jobs/01a206e8-b163-760e-b415-9ddc1344d6é9", headers=signed_in.headers)

    errors = assert_problem(response, 422, "validation_failed")["errors"]
    assert errors == [{"pointer": "path/job_id", "code": "uuid_parsing", "detail": "Input should be a valid UUID"}]


async def test_a_field_of_a_form_is_pointed_at_like_one_of_a_body(app: FastAPI, client: AsyncClient) -> None:
    class Choice(BaseModel):
        colour: Literal["red"]

    @app.post("/choose")
    async def choose(form: Annotated[Choice, Form()]) -> None: ...

    response = await client.post("/choose", data={"colour": SECRET})

    errors = assert_problem(response, 422, "validation_failed")["errors"]
    assert [(error["pointer"], error["detail"]) for error in errors] == [("#/colour", "Input should be 'red'")]


async def test_a_403_names_what_is_lacking(client: AsyncClient, signed_in: SignedIn) -> None:
    response = await client.get("/jobs/queues", headers=signed_in.headers)

    assert_problem(response, 403, "operator_required")
    assert response.headers["WWW-Authenticate"] == 'Bearer error="insufficient_scope"'


async def test_a_fault_of_ours_shows_nothing_of_itself(app: FastAPI, client: AsyncClient) -> None:
    @app.get("/boom")
    async def boom() -> None:
        raise RuntimeError(SECRET)

    response = await client.get("/boom")

    problem = assert_problem(response, 500, "internal_error")
    assert set(problem) == {"type", "title", "status", "detail", "instance", "code", "request_id"}
    assert SECRET not in response.text


async def test_an_answer_of_the_wrong_form_is_not_shown_in_the_log(app: FastAPI, client: AsyncClient) -> None:
    @app.get("/wrong", response_model=dict[str, int])
    async def wrong() -> dict[str, str]:
        return {"email": SECRET}

    with capture_logs(processors=[structlog.processors.format_exc_info]) as logs:
        await client.get("/wrong")

    (failed,) = [line for line in logs if line["event"] == "request_failed"]
    assert "int_parsing" in failed["exception"]
    assert SECRET not in failed["exception"]


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "/probe/health", {}),
        ("GET", "/auth/me", {}),
        ("GET", "/jobs", {}),
        ("POST", "/auth/logout", {}),
        ("POST", "/auth/access-token", {"data": {"username": "a@b.test", "password": "correct horse battery 42"}}),
        ("POST", "/auth/register", {"json": {"email": "a@b.test", "password": "correct horse battery 42"}}),
    ],
)
async def test_without_the_database_the_answer_is_try_again(
    api_settings: ApiSettings, signed_in: SignedIn, method: str, path: str, body: dict[str, dict[str, str]]
) -> None:
    nowhere = {"url": f"postgresql://app@127.0.0.1:{free_port()}/gone_test"}
    settings = ApiSettings.model_validate(api_settings.model_dump() | {"database": nowhere})

    async with open_client(app_of(settings)) as client:
        response = await client.request(method, path, headers=signed_in.headers, **body)  # type: ignore[arg-type]

    assert_problem(response, 503, "database_unavailable")
