""".env.example names every setting of the applications, with its default, and no secret that would be accepted."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import BaseModel, ValidationError
from pydantic_settings import BaseSettings

from app_api.settings import ApiSettings
from app_worker.settings import WorkerSettings

ROOT = Path(__file__).parents[2]
EXAMPLE = (ROOT / ".env.example").read_text()
APPLICATIONS: tuple[type[BaseSettings], ...] = (ApiSettings, WorkerSettings)
# The two applications differ, and say so; absence means something else than any value.
WITHOUT_ONE_DEFAULT = {"APP_REDIS__TIMEOUT", "APP_HTTP__DOCS", "APP_DATABASE__DIRECT_URL"}

RING = '[{"kid": "1", "secret": "q83vASNFZ4mrze8BI0VniavN7wEjRWeJq83vASNFZ4k="}]'
REQUIRED = {
    "APP_DATABASE__URL": "postgresql://127.0.0.1/example",
    "APP_REDIS__URL": "redis://127.0.0.1",
    "APP_AUTH__KEYS": RING,
    "APP_AUTH__REFRESH_KEYS": RING,
    "APP_AUTH__PEPPERS": RING,
}


def names(model: type[BaseModel], prefix: str = "APP_") -> Iterator[str]:
    """Yield the environment variables that fill the fields of a settings class."""
    for name, field in model.model_fields.items():
        variable = f"{prefix}{str(field.validation_alias or name).upper()}"
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from names(field.annotation, f"{variable}__")
        else:
            yield variable


def examples(*, commented_out: bool) -> dict[str, str]:
    """Return the variables of the page with their values."""
    mark = "# " if commented_out else ""
    return dict(re.findall(rf"^{mark}(APP_[A-Z_]+)=(.*)$", EXAMPLE, re.MULTILINE))


def read(application: type[BaseSettings], monkeypatch: pytest.MonkeyPatch, variables: dict[str, str]) -> BaseSettings:
    """Let an application read its settings from these environment variables alone."""
    for name in {*names(ApiSettings), *names(WorkerSettings)}:
        monkeypatch.delenv(name, raising=False)
    for name in set(names(application)) & set(variables):
        monkeypatch.setenv(name, variables[name])
    return application()


def test_every_setting_is_on_the_page_and_nothing_else() -> None:
    on_the_page = {*examples(commented_out=True), *examples(commented_out=False)}

    assert on_the_page == {name for application in APPLICATIONS for name in names(application)}


@pytest.mark.parametrize("application", APPLICATIONS)
def test_what_is_commented_out_is_the_default(application: type[BaseSettings], monkeypatch: pytest.MonkeyPatch) -> None:
    shown = {k: v for k, v in examples(commented_out=True).items() if k not in WITHOUT_ONE_DEFAULT}

    defaults = read(application, monkeypatch, REQUIRED)
    as_shown = read(application, monkeypatch, {**shown, **REQUIRED})

    assert as_shown == defaults


def test_the_page_as_it_is_starts_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValidationError) as refused:
        read(ApiSettings, monkeypatch, examples(commented_out=False))

    places = {error["loc"][1] for error in refused.value.errors()}
    assert {"keys", "refresh_keys", "peppers"} <= places
