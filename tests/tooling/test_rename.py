"""scripts/rename.py: it replaces the placeholder, keeps words that merely contain it, and a refusal changes nothing."""

import subprocess
import sys
from pathlib import Path

import pytest
from rename import renamer

ROOT = Path(__file__).parents[2]

PACKAGES = ["api", "auth", "db", "runtime", "worker"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("from app_db.models import User", "from my_shop_db.models import User"),
        ("import app_api, app_worker.main", "import my_shop_api, my_shop_worker.main"),
        ('"app-db>=0.1,<0.2"', '"my-shop-db>=0.1,<0.2"'),
        ("app-db[testing]", "my-shop-db[testing]"),
        ("packages/db/src/app_db/py.typed", "packages/db/src/my_shop_db/py.typed"),
        ("git tag app-db-v0.3.0", "git tag my-shop-db-v0.3.0"),
        ("app_db = 'app_db.testing.plugin'", "my_shop_db = 'my_shop_db.testing.plugin'"),
        ("python -m app_worker run", "python -m my_shop_worker run"),
        ('SettingsConfigDict(env_prefix="APP_")', 'SettingsConfigDict(env_prefix="MY_SHOP_")'),
        ("$APP_DATABASE__URL ${APP_ENV}", "$MY_SHOP_DATABASE__URL ${MY_SHOP_ENV}"),
        ('TEMPLATE = "app_template_test"', 'TEMPLATE = "my_shop_template_test"'),
        ('f"app_{worker_id}_test"', 'f"my_shop_{worker_id}_test"'),
        ("{port} app_gw{worker}_test", "{port} my_shop_gw{worker}_test"),
        ("/app_production", "/my_shop_production"),
        (
            "rate(app_jobs_finished_total[5m]) / max(app_job_deliveries_waiting)",
            "rate(my_shop_jobs_finished_total[5m]) / max(my_shop_job_deliveries_waiting)",
        ),
        (
            "sum(rate(app_http_errors_total[5m])) > app_password_hashes_waiting",
            "sum(rate(my_shop_http_errors_total[5m])) > my_shop_password_hashes_waiting",
        ),
        ("image: app-migrate", "image: my-shop-migrate"),
        ("from app_client.models import Problem", "from my_shop_client.models import Problem"),
        ('f"app:queue:{queue}"', 'f"my_shop:queue:{queue}"'),
        ("uv run --package app-$p pytest", "uv run --package my-shop-$p pytest"),
        ('f"app_{member}"', 'f"my_shop_{member}"'),
        ("`app_` is the placeholder", "`my_shop_` is the placeholder"),
    ],
)
def test_the_placeholder_is_replaced_in_each_of_its_forms(text: str, expected: str) -> None:
    assert renamer("my-shop", PACKAGES)(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "application, applied, mapped, happens, wrapper_db",
        "app = FastAPI()",
        "app.add_middleware(Cors)",
        "async def app(scope, receive, send): ...",
        "app: FastAPI",
        "app_error_response(scope, error)",
        "def app_of(settings):",
        "my_app_db = 1",
        "WHATSAPP_URL",
        "from app_dbase import x",
        "postgresql://app@127.0.0.1/postgres",
        "postgresql://app:secret@127.0.0.1/app",
        "https://app.example.test/",
        "'--app-dir'",
        "ASGITransport(app=app)",
    ],
)
def test_words_that_merely_contain_it_stay(text: str) -> None:
    assert renamer("my-shop", PACKAGES)(text) == text


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A clone of this checkout's last commit."""
    subprocess.run(["git", "clone", "--quiet", ROOT, tmp_path / "clone"], check=True)
    return tmp_path / "clone"


def rename(checkout: Path, name: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "scripts" / "rename.py"), "--root", str(checkout), name]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def state_of(checkout: Path) -> str:
    return subprocess.run(
        ["git", "status", "--porcelain", "--branch"], cwd=checkout, capture_output=True, text=True, check=True
    ).stdout


@pytest.mark.parametrize("name", ["Acme", "1acme", "acme.shop", "acme--shop", "acme_", "", "a" * 21, "app", "json"])
def test_a_name_that_cannot_be_one_is_refused(checkout: Path, name: str) -> None:
    before = state_of(checkout)

    run = rename(checkout, name)

    assert run.returncode == 1
    assert repr(name) in run.stderr
    assert state_of(checkout) == before


def test_a_checkout_with_changes_is_refused(checkout: Path) -> None:
    (checkout / "notes.txt").write_text("mine")

    run = rename(checkout, "acme")

    assert run.returncode == 1
    assert "notes.txt" in run.stderr
    assert (checkout / "packages" / "db" / "src" / "app_db").is_dir()


def test_a_second_rename_is_refused(checkout: Path) -> None:
    for package in PACKAGES:
        source = checkout / "packages" / package / "src"
        (source / f"app_{package}").rename(source / f"acme_{package}")

    run = rename(checkout, "other")

    assert run.returncode == 1
    assert "renamed before" in run.stderr
