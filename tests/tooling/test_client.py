"""`make client`: docs/how-to/clients.md is performed, the clients that it generates ask a running API."""

import shlex
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import client
import pytest

from app_api.app import create_app
from app_api.settings import ApiSettings
from app_api.testing import served
from app_auth.limits import ThrottleSettings
from app_auth.settings import AuthSettings
from app_db import Database
from app_db.settings import DatabaseSettings
from tests.docs.checkout import reader_environment
from tests.docs.performing import Performer, reader
from tests.reads import CLIENTS

pytestmark = CLIENTS

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs/how-to/clients.md"
UV = f"sh {shlex.quote(str(ROOT / 'scripts/uv.sh'))}"
MAKE = f"{shlex.quote(sys.executable)} {shlex.quote(str(ROOT / 'scripts/client.py'))} --to dist/client"


@pytest.fixture
def url(
    database_settings: DatabaseSettings,
    database: Database,
    valkey_url: str,
    auth_settings: AuthSettings,
    throttle_settings: ThrottleSettings,
) -> Iterator[str]:
    """The URL of a running API."""
    settings = ApiSettings.model_validate(
        {
            "env": "test",
            "database": database_settings,
            "redis": {"url": valkey_url},
            "auth": auth_settings,
            "throttle": throttle_settings,
        }
    )
    with served(create_app(settings)) as port:
        yield f"http://127.0.0.1:{port}"


@pytest.fixture
def performer(tmp_path: Path) -> Iterator[Performer]:
    """A reader of the page, in an empty folder."""
    replace = {"uv run": f"{UV} run", "make client": MAKE}
    with reader(tmp_path, env=reader_environment(), replace=replace) as performer:
        yield performer


def part_of_page(folder: Path, url: str, *titles: str) -> Path:
    """Return a page with the sections of these titles, for the API at `url`."""
    parts = PAGE.read_text().split("\n## ")
    part = folder / PAGE.name
    text = "\n## ".join(each for each in parts if each.startswith(titles))
    part.write_text(text.replace("http://127.0.0.1:8000", url))
    return part


@pytest.mark.timeout(600)
def test_a_python_client_is_written_and_asks_a_running_api(performer: Performer, url: str, tmp_path: Path) -> None:
    performer.perform(part_of_page(tmp_path, url, "# Generating clients", "Python"))

    performer.run(f"{UV} run --no-project --with ./dist/client/python --with mypy mypy --strict use.py")


@pytest.mark.timeout(600)
@pytest.mark.skipif(shutil.which("npx") is None, reason="there is no Node on this machine")
def test_types_for_typescript_are_written_and_fit_a_running_api(performer: Performer, url: str, tmp_path: Path) -> None:
    performer.perform(part_of_page(tmp_path, url, "# Generating clients", "TypeScript"))


def test_the_page_and_the_script_name_the_same_compiler() -> None:
    assert f"--package {client.TYPESCRIPT} -- tsc" in PAGE.read_text()


def test_without_node_the_types_are_left_out(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))

    assert client.write_typescript(tmp_path / "openapi.json", tmp_path) is None


def test_what_a_generator_says_when_it_fails_is_passed_on(tmp_path: Path) -> None:
    document = tmp_path / "openapi.json"
    document.write_text("{}")

    with pytest.raises(client.ClientError, match="openapi"):
        client.write_python(document, tmp_path)
