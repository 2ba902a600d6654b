""".env.example names every setting of the applications, with its default, and no secret that would be accepted."""

import json
import re
from base64 import b64encode
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random

import pytest
from pydantic import BaseModel

from app_api import settings as api
from app_auth.keys import RINGS
from app_auth.settings import AuthSettings, KeyRing, SigningRing
from app_runtime.configuration import SECRETS_FILE, Misconfigured, load, variables
from app_worker import settings as worker

ROOT = Path(__file__).parents[2]
EXAMPLE = (ROOT / ".env.example").read_text()
APPLICATIONS: tuple[tuple[type[BaseModel], Sequence[str]], ...] = (
    (api.ApiSettings, api.ELSEWHERE),
    (worker.WorkerSettings, worker.ELSEWHERE),
    (worker.CommandSettings, (*worker.ELSEWHERE, *worker.FOR_RUN)),
)
# Settings without one default: the applications differ, or an absent value differs from every value.
WITHOUT_ONE_DEFAULT = {
    "APP_DATABASE__CA_PATH",
    "APP_DATABASE__DIRECT_URL",
    "APP_DATABASE__REPLICA_URL",
    "APP_DATABASE__TLS",
    "APP_LOG__FORMAT",
    "APP_TRACING__ENDPOINT",
    "APP_HTTP__DOCS",
    "APP_CONSOLE__ENABLED",
    "APP_CONSOLE__MAIL_FOLDER",
    "APP_MAIL__CA_PATH",
    "APP_MAIL__EHLO_NAME",
    "APP_MAIL__TLS",
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


@pytest.mark.parametrize("given", [examples(commented_out=False), examples(commented_out=True)])
def test_a_server_that_is_given_no_more_than_the_page_is_told_what_it_needs(given: dict[str, str]) -> None:
    with pytest.raises(Misconfigured) as refused:
        load(api.ApiSettings, given, elsewhere=api.ELSEWHERE)

    refused_names = {line.partition(":")[0] for line in refused.value.lines}
    assert refused_names == set(REQUIRED)
    assert [line for line in refused.value.lines if not line.endswith(": has to be set")] == []


NAMES = sorted({variable.name for model, _ in APPLICATIONS for variable in variables(model)})
EMPTY = [
    ("a variable", lambda name, folder: {name: ""}),
    ("blanks", lambda name, folder: {name: " \t"}),
    ("a file without a name", lambda name, folder: {f"{name}_FILE": ""}),
    ("an empty file", lambda name, folder: {f"{name}_FILE": written(folder, "\n")}),
    ("a line of the secrets", lambda name, folder: {SECRETS_FILE: written(folder, f"{name}=\n")}),
    ("a quoted line", lambda name, folder: {SECRETS_FILE: written(folder, f"{name}=''\n")}),
    ("no secrets", lambda name, folder: {SECRETS_FILE: "", name: ""}),
]


def written(folder: Path, text: str) -> str:
    path = folder / "file"
    path.write_text(text)
    return str(path)


@pytest.mark.parametrize(("application", "elsewhere"), APPLICATIONS)
@pytest.mark.parametrize("empty", [make for _, make in EMPTY], ids=[name for name, _ in EMPTY])
def test_no_setting_at_all_is_set_by_what_is_empty(
    empty: Callable[[str, Path], dict[str, str]], application: type[BaseModel], elsewhere: Sequence[str], tmp_path: Path
) -> None:
    """An empty host would be every address (socket.bind), so that the metrics were open to strangers."""
    defaults = load(application, REQUIRED, elsewhere=elsewhere)

    for name in NAMES:
        given = {other: value for other, value in REQUIRED.items() if other != name} | empty(name, tmp_path)
        if name in REQUIRED and name in {variable.name for variable in variables(application)}:
            with pytest.raises(Misconfigured, match=f"^{name}: has to be set$"):
                load(application, given, elsewhere=elsewhere)
        else:
            assert load(application, given, elsewhere=elsewhere) == defaults


@pytest.mark.parametrize(("application", "elsewhere"), APPLICATIONS)
def test_each_variable_can_come_from_a_file(
    application: type[BaseModel], elsewhere: Sequence[str], tmp_path: Path
) -> None:
    files = {}
    for name, value in ({**examples(commented_out=True), **REQUIRED}).items():
        if value and name not in WITHOUT_ONE_DEFAULT:
            (tmp_path / name).write_text(f"{value}\n")
            files[f"{name}_FILE"] = str(tmp_path / name)

    assert load(application, files, elsewhere=elsewhere) == load(application, REQUIRED, elsewhere=elsewhere)


@pytest.mark.parametrize(("application", "elsewhere"), APPLICATIONS)
def test_a_name_that_is_not_on_the_page_is_refused(application: type[BaseModel], elsewhere: Sequence[str]) -> None:
    with pytest.raises(Misconfigured, match=r"^APP_LOGLEVEL: is no setting; the closest one is APP_LOG__LEVEL$"):
        load(application, {**REQUIRED, "APP_LOGLEVEL": ""}, elsewhere=elsewhere)


def test_a_byte_order_mark_is_no_part_of_the_first_line(tmp_path: Path) -> None:
    """Windows' editors begin a file of UTF-8 with U+FEFF; EnvironmentFile= and Compose take it away, too."""
    page = tmp_path / "secrets.env"
    page.write_text("".join(f"{name}='{value}'\n" for name, value in REQUIRED.items()), encoding="utf-8-sig")
    port = tmp_path / "port"
    port.write_text("8001\r\n", encoding="utf-8-sig")

    settings = load(
        api.ApiSettings, {SECRETS_FILE: str(page), "APP_HTTP__PORT_FILE": str(port)}, elsewhere=api.ELSEWHERE
    )

    assert settings.http.port == 8001


def test_the_keys_that_can_be_rotated_are_those_that_there_are() -> None:
    types = {str(KeyRing), str(SigningRing)}
    rings = {name for name, field in AuthSettings.model_fields.items() if str(field.annotation) in types}

    assert set(RINGS) == rings
