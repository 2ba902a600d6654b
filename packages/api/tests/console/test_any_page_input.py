"""No page of the console fails, whatever an operator's browser sends to it."""

import json
import os
from http import HTTPStatus
from typing import Any
from urllib.parse import quote, urlencode

import pytest
from fastapi import FastAPI
from fastapi.routing import iter_route_contexts
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app_api.console.paths import LIVE, ROOT, is_ours
from app_api.feature_settings import ALL_SETTINGS
from app_api.settings import ApiSettings
from app_auth.testing import new_key
from app_db.models import JobState
from app_db.outage import DatabaseUnavailable
from packages.api.tests.conftest import OUR_FORM, Browser, MakeJob, app_of

ANSWERS = {200, 303, 304, 400, 403, 404, 405, 409, 413, 415, 422, 429}
OUTAGE = str(DatabaseUnavailable.__doc__)
"""A feature without its settings says 503 in words of its own; an outage is the fault of no input."""
ENDS = {LIVE, f"{ROOT}/sign-out", f"{ROOT}/account/delete"}
"""A stream does not end, and these end the operator."""
BYTES: Any = {"errors": "surrogatepass"}  # half a surrogate pair becomes bytes that are no UTF-8
FIELDS = (
    "state", "kind", "queue", "owner", "error", "age", "after", "done", "next", "window", "job", "id", "act", "all",
    "count", "limit", "run_at", "payload", "password", "page", "since", "email", "token",
)  # fmt: skip
FEW = 40
EXAMPLES = int(os.environ.get("HYPOTHESIS_EXAMPLES", FEW))

texts = st.text(st.characters(), max_size=20)
words = st.sampled_from(
    (
        "",
        "0",
        "-1",
        "1" * 30,
        "1e400",
        "NaN",
        "true",
        "retry",
        "discard",
        "hour",
        "day",
        *map(str, JobState),
        "null",
        "{}",
    )
)
times = st.datetimes().map(lambda time: time.isoformat(timespec="minutes"))
fields = st.lists(st.tuples(st.sampled_from(FIELDS) | texts, words | texts | times), max_size=6)


@pytest.fixture
def app(api_settings: ApiSettings) -> FastAPI:
    """An application that has all the settings that its features want, so that no page is unavailable."""
    return app_of(ALL_SETTINGS.model_validate({**dict(api_settings), "totp": {"keys": (new_key("totp"),)}}))


@settings(
    max_examples=EXAMPLES, deadline=None, derandomize=EXAMPLES == FEW, database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)  # fmt: skip
@given(data=st.data())
async def test_no_page_fails_whatever_is_sent_to_it(
    app: FastAPI, operator_browser: Browser, make_job: MakeJob, data: st.DataObject
) -> None:
    job_id = str(await make_job(error="Boom", payload={"a": 1}))
    paths = sorted(
        {found.path for found in iter_route_contexts(app.routes) if found.path and is_ours(found.path)} - ENDS
    )
    method = data.draw(st.sampled_from(("GET", "POST")))
    path: str = data.draw(st.sampled_from(paths))
    while "{" in path:
        value = data.draw(st.just(job_id) | words | texts.map(lambda text: quote(text, safe="", **BYTES)))
        path = f"{path.partition('{')[0]}{value}{path.partition('}')[2]}"
    sent = [
        *data.draw(fields),
        *data.draw(st.sampled_from(([], [("job", job_id)], [("payload", json.dumps({"a": 2}))]))),
    ]

    response = await operator_browser.client.request(
        method, f"{path}?{urlencode(data.draw(fields), **BYTES)}", content=urlencode(sent, **BYTES),
        headers={**OUR_FORM, "Content-Type": "application/x-www-form-urlencoded"},
    )  # fmt: skip

    is_off = response.status_code == HTTPStatus.SERVICE_UNAVAILABLE and OUTAGE not in response.text
    assert is_off or response.status_code in ANSWERS, f"{response.status_code} {method} {path}: {response.text}"
