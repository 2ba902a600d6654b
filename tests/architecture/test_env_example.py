""".env.example names every setting of the applications, with its default, and no secret that would be accepted."""

import json
import re
from base64 import b64encode
from collections.abc import Sequence
from pathlib import Path
from random import Random

import pytest
from pydantic import BaseModel

from app_api import settings as api
from app_auth.keys import RINGS
from app_auth.settings import AuthSettings, KeyRing
from app_db.configuration import SECRETS_FILE, Misconfigured, load, variables
from app_worker import settings as worker

ROOT = Path(__file__).parents[2]
EXAMPLE = (ROOT / ".env.example").read_text()
APPLICATIONS: tuple[tuple[type[BaseModel], Sequence[str]], ...] = (
    (api.ApiSettings, api.ELSEWHERE),
    (worker.WorkerSettings, worker.ELSEWHERE),
    (worker.CommandSettings, (*worker.ELSEWHERE, *worker.FOR_RUN)),
)
# The two applications differ, and say so; absence means something else than any value.
WITHOUT_ONE_DEFAULT = {
    "APP_DATABASE__CA_PATH",
    "APP_DATABASE__DIRECT_URL",
    "APP_DATABASE__REPLICA_URL",
    "APP_DATABASE__TLS",
    "APP_LOG__FORMAT",
    "APP_TRACING__ENDPOINT",
    "APP_HTTP__DOCS",
    "APP_REDIS__CA_PATH",
    "APP_REDIS__TIMEOUT",
    "APP_REDIS__TLS",
    SECRETS_FILE,
}

REQUIRED = {
    "APP_DATABASE__URL": "postgresql://127.0.0.1/example",
    "APP_REDIS__URL": "redis://127.0.0.1",
    **{
        f"APP_AUTH__{ring.upper()}": json.dumps(
            [{"kid": "1", "secret": b64encode(Random(ring).randbytes(32)).decode()}]
        )
        for ring in RINGS
    },
}


def examples(*, commented_out: bool) -> dict[str, str]:
    """Return the variables of the page with their values."""
    mark = "# " if commented_out else ""
    return dict(re.findall(rf"^{mark}(APP_[A-Z_]+)=(.*)$", EXAMPLE, re.MULTILINE))


def test_every_setting_is_on_the_page_and_nothing_else() -> None:
    on_the_page = {*examples(commented_out=True), *examples(commented_out=False)}

    assert on_the_page == {variable.name for model, _ in APPLICATIONS for variable in variables(model)} | {SECRETS_FILE}


@pytest.mark.parametrize(("application", "elsewhere"), APPLICATIONS)
def test_what_is_commented_out_is_the_default(application: type[BaseModel], elsewhere: Sequence[str]) -> None:
    shown = {k: v for k, v in examples(commented_out=True).items() if k not in WITHOUT_ONE_DEFAULT}

    defaults = load(application, REQUIRED, elsewhere=elsewhere)
    as_shown = load(application, {**shown, **REQUIRED}, elsewhere=elsewhere)

    assert as_shown == defaults


def test_the_page_as_it_is_starts_nothing() -> None:
    with pytest.raises(Misconfigured) as refused:
        load(api.ApiSettings, examples(commented_out=False), elsewhere=api.ELSEWHERE)

    refused_names = {line.partition(":")[0] for line in refused.value.lines}
    assert refused_names == set(REQUIRED)


def test_the_keys_that_can_be_rotated_are_those_that_there_are() -> None:
    rings = {name for name, field in AuthSettings.model_fields.items() if str(field.annotation) == str(KeyRing)}

    assert set(RINGS) == rings
