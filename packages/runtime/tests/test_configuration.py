"""How settings are read; `python -m app_api` and `python -m app_worker` say the same things about theirs."""

from pathlib import Path
from typing import Annotated, Literal

import pytest
from pydantic import BaseModel, Field, SecretStr, model_validator

from app_runtime.configuration import SECRETS_FILE, Misconfigured, lines_of, load, shown


class Key(BaseModel, frozen=True):
    kid: str
    secret: Annotated[SecretStr, Field(min_length=3)]


type Ring = Annotated[tuple[Key, ...], Field(min_length=1)]


class Part(BaseModel, frozen=True):
    ring: Ring = (Key(kid="1", secret=SecretStr("abc")),)
    sender: Annotated[str, Field(validation_alias="from")] = "nobody"
    names: tuple[str, ...] | None = None
    level: Literal["high", "low"] = "low"


class Database(BaseModel, frozen=True):
    url: SecretStr
    direct_url: SecretStr | None = None


class Settings(BaseModel, frozen=True):
    database: Database
    part: Part = Part()
    port: int = 1

    @model_validator(mode="after")
    def _check(self) -> "Settings":
        if self.part.level == "high" and self.port == 1:
            raise ValueError("APP_PORT: is too low for this level")
        return self


PASSWORD = "pa55-of-the-database"
LEAST = {"APP_DATABASE__URL": f"postgresql://app:{PASSWORD}@127.0.0.1:5433/app"}


def lines(environ: dict[str, str]) -> tuple[str, ...]:
    with pytest.raises(Misconfigured) as refused:
        load(Settings, environ, elsewhere=["APP_WORKER__"])
    return refused.value.lines


def test_lists_and_shapes_are_json_and_the_rest_is_text() -> None:
    given = {"APP_PORT": "2", "APP_PART__FROM": "[ada]", "APP_PART__NAMES": '["a"]'}
    given["APP_PART__RING"] = '[{"kid": "2", "secret": "def"}]'

    settings = load(Settings, LEAST | given)

    assert (settings.port, settings.part.sender, settings.part.names) == (2, "[ada]", ("a",))
    assert settings.part.ring[0].secret.get_secret_value() == "def"


@pytest.mark.parametrize(
    ("name", "closest"),
    [
        ("APP_PROT", "APP_PORT"),
        ("APP_DATABASE_URL", "APP_DATABASE__URL"),
        ("APP_PART__FORM", "APP_PART__FROM"),
        ("APP_DATABASE__URI_FILE", "APP_DATABASE__URL"),
        ("APP_DEBUG", "APP_DATABASE__URL"),
    ],
)
def test_an_unknown_variable_is_refused_with_the_closest_known_one(name: str, closest: str) -> None:
    assert lines(LEAST | {name: "5ecret"}) == (f"{name}: is no setting; the closest one is {closest}",)


def test_variables_of_others_are_left_alone(tmp_path: Path) -> None:
    others = {
        "HOME": "/",
        "APP_PG_BIN": "/bin",
        "APP_WORKER__QUEUES": "[",
        "APP_WORKER__X_FILE": str(tmp_path / "none"),
    }

    assert load(Settings, LEAST | others, elsewhere=["APP_WORKER__"]) == load(Settings, LEAST)


def test_all_that_is_wrong_is_said_at_once_by_name_and_without_the_value() -> None:
    wrong = {"APP_PORT": "pa55", "APP_PROT": "pa55", "APP_PART__NAMES": "[pa55", "APP_PART__RING": '[{"secret": "p"}]'}

    assert lines(wrong) == (
        "APP_PROT: is no setting; the closest one is APP_PORT",
        "APP_PART__NAMES: is not JSON",
        "APP_DATABASE__URL: has to be set",
        "APP_PART__RING: 0: kid: has to be set",
        "APP_PORT: Input should be a valid integer, unable to parse string as an integer",
    )


def test_what_several_settings_say_together_is_refused_too() -> None:
    assert lines(LEAST | {"APP_PART__LEVEL": "high"}) == ("APP_PORT: is too low for this level",)


def test_a_variable_can_name_a_file_that_holds_the_value(tmp_path: Path) -> None:
    secret = tmp_path / "url"
    secret.write_text(LEAST["APP_DATABASE__URL"] + "\n")

    settings = load(Settings, {"APP_DATABASE__URL_FILE": str(secret)})

    assert settings == load(Settings, LEAST)


def test_a_variable_and_its_file_together_are_refused(tmp_path: Path) -> None:
    given = LEAST | {"APP_DATABASE__URL_FILE": str(tmp_path)}

    assert lines(given) == ("APP_DATABASE__URL: is set, and APP_DATABASE__URL_FILE too; one of them has to go",)


@pytest.mark.parametrize("content", [None, b"\xff"])
def test_a_file_that_cannot_be_read_is_named_by_its_variable(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "pa55"
    if content:
        path.write_bytes(content)

    (line,) = lines({"APP_DATABASE__URL_FILE": str(path)})

    assert line.startswith("APP_DATABASE__URL_FILE: the file cannot be read: ")
    assert "pa55" not in line


SECRETS = """
# made by `config init`
APP_DATABASE__URL='postgresql://app:pa55@localhost/app'
export APP_PORT="3"
APP_PART__FROM=it's
APP_WORKER__CONCURRENCY=4
"""


def test_a_file_of_secrets_is_read_and_variables_come_first(tmp_path: Path) -> None:
    secrets = tmp_path / "secrets.env"
    secrets.write_text(SECRETS)

    settings = load(Settings, {SECRETS_FILE: str(secrets), "APP_PART__FROM": "ada"}, elsewhere=["APP_WORKER__"])

    assert settings.database.url.get_secret_value() == "postgresql://app:pa55@localhost/app"
    assert (settings.port, settings.part.sender) == (3, "ada")


def test_a_file_named_by_a_variable_comes_before_the_file_of_secrets(tmp_path: Path) -> None:
    (tmp_path / "secrets.env").write_text(SECRETS)
    (tmp_path / "port").write_text("7")
    environ = {SECRETS_FILE: str(tmp_path / "secrets.env"), "APP_PORT_FILE": str(tmp_path / "port")}

    assert load(Settings, environ, elsewhere=["APP_WORKER__"]).port == 7


@pytest.mark.parametrize("empty", [{"APP_PORT": ""}, {"APP_PORT": " "}, {"APP_PORT_FILE": ""}, {SECRETS_FILE: ""}])
def test_what_is_empty_is_not_set(empty: dict[str, str]) -> None:
    assert load(Settings, LEAST | empty) == load(Settings, LEAST)


ONE_IS_EMPTY = """
APP_PORT=
APP_PART__FROM=ada
"""


def test_an_empty_variable_hides_no_file(tmp_path: Path) -> None:
    secrets, port = tmp_path / "secrets.env", tmp_path / "port"
    secrets.write_text(ONE_IS_EMPTY)
    port.write_text("7")

    settings = load(Settings, LEAST | {"APP_PORT": "", "APP_PORT_FILE": str(port), SECRETS_FILE: str(secrets)})

    assert (settings.port, settings.part.sender) == (7, "ada")


def test_a_byte_order_mark_is_no_part_of_the_first_line(tmp_path: Path) -> None:
    port = tmp_path / "port"
    port.write_text("7", encoding="utf-8-sig")

    assert lines_of("\ufeffA=1\nB=2\n") == {"A": "1", "B": "2"}
    assert load(Settings, LEAST | {"APP_PORT_FILE": str(port)}).port == 7


def test_a_line_that_sets_nothing_is_refused_by_its_number() -> None:
    with pytest.raises(Misconfigured, match=r"^APP_SECRETS_FILE: line 2 is not NAME=value$"):
        lines_of("A=1\npa55\n")


def test_settings_are_shown_with_where_they_come_from_and_without_secrets(tmp_path: Path) -> None:
    port = tmp_path / "port"
    port.write_text("7")
    environ = LEAST | {"APP_PORT_FILE": str(port)}

    text = list(shown(load(Settings, environ), environ))

    assert "APP_DATABASE__URL=postgresql://…@127.0.0.1:5433/app  # variable" in text
    assert 'APP_PART__RING=[{"kid": "1", "secret": "**********"}]  # default' in text
    assert "APP_PORT=7  # APP_PORT_FILE" in text
    assert "APP_DATABASE__DIRECT_URL=null  # default" in text
    assert "APP_PART__FROM=nobody  # default" in text


@pytest.mark.parametrize(
    ("url", "text"),
    [
        ("postgresql:///app?host=/run&password=pa55", "postgresql:///app"),
        ("postgresql://app:pa55/x@db.example.test/app", "…"),
        ("postgresql://app@[::1]:5432/app?password=pa55", "postgresql://…@[::1]:5432/app"),
        ("postgresql://app@db.example.test/app?password=pa@55", "…"),
        ("postgresql://app:pa55?x@db.example.test/app", "…"),
    ],
)
def test_no_part_of_a_password_is_shown(url: str, text: str) -> None:
    settings = Database.model_construct(url=SecretStr(url))

    first, *_ = shown(settings, {})

    assert first == f"APP_URL={text}  # default"
