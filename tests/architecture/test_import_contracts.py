"""Each import contract holds, and breaks on the fault that it is there for."""

import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import NamedTuple

import pytest

pytestmark = pytest.mark.integration

ROOT = Path(__file__).parents[2]
PACKAGES = ("runtime", "db", "auth", "api", "worker")


class Fault(NamedTuple):
    """A line to plant, the module to plant it in, and the contract that forbids it."""

    contract: str
    module: str
    line: str


FAULTS = (
    Fault("layers", "db/src/app_db/paging.py", "import app_auth.errors"),
    Fault("layers", "runtime/src/app_runtime/tls.py", "import app_db.errors"),
    Fault("layers", "auth/src/app_auth/accounts.py", "import app_api.problems"),
    Fault("layers", "auth/src/app_auth/accounts.py", "import app_worker.mail"),
    Fault("layers", "api/src/app_api/features/accounts/router.py", "import app_worker.mail"),
    Fault("layers", "worker/src/app_worker/runner.py", "import app_api.problems"),
    Fault("kernel", "auth/src/app_auth/sessions.py", "import app_auth.features"),
    Fault("http", "auth/src/app_auth/errors.py", "from fastapi import HTTPException"),
    Fault("http", "worker/src/app_worker/mail.py", "from starlette.datastructures import URL"),
    Fault("http", "db/src/app_db/errors.py", "import uvicorn"),
    Fault("sql", "runtime/src/app_runtime/configuration.py", "import asyncpg"),
    Fault("sql", "runtime/src/app_runtime/testing/servers.py", "from sqlalchemy import make_url"),
    Fault("sql", "auth/src/app_auth/sessions.py", "from sqlalchemy import select"),
    Fault("sql", "api/src/app_api/features/jobs/router.py", "from sqlalchemy.orm import Session"),
    Fault("sql", "worker/src/app_worker/features/accounts/handlers.py", "import asyncpg"),
    Fault("arq", "worker/src/app_worker/runner.py", "from arq import Retry"),
    Fault("arq", "api/src/app_api/lifespan.py", "from arq import create_pool"),
    Fault("redis", "db/src/app_db/jobs/outbox.py", "import redis"),
    Fault("redis", "auth/src/app_auth/sessions.py", "from redis.asyncio import Redis"),
    Fault("redis", "api/src/app_api/features/accounts/router.py", "from redis.asyncio import Redis"),
    Fault("log", "db/src/app_db/engine.py", "import structlog"),
    Fault("log", "db/src/app_db/telemetry/trace_setup.py", "from structlog.typing import Processor"),
    Fault("telemetry", "runtime/src/app_runtime/configuration.py", "import prometheus_client"),
    Fault("telemetry", "auth/src/app_auth/passwords.py", "import prometheus_client"),
    Fault("traces", "db/src/app_db/jobs/outbox.py", "from opentelemetry.trace import get_current_span"),
    Fault("traces", "worker/src/app_worker/runner.py", "import opentelemetry.sdk"),
    Fault("testing", "runtime/src/app_runtime/output.py", "import app_runtime.testing.processes"),
    Fault("testing", "db/src/app_db/engine.py", "import app_db.testing.queries"),
    Fault("testing", "worker/src/app_worker/main.py", "from app_runtime.testing.servers import ValkeyServer"),
    Fault("testing", "worker/src/app_worker/process.py", "import app_worker.testing"),
    Fault("testing", "api/src/app_api/lifespan.py", "from app_auth.testing import Account"),
)


def contracts() -> dict[str, str]:
    """Return the names of the contracts by their ids."""
    config = tomllib.loads((ROOT / "pyproject.toml").read_text())
    return {contract["id"]: contract["name"] for contract in config["tool"]["importlinter"]["contracts"]}


def broken_contracts(checkout: Path) -> set[str]:
    """Return the names of the contracts that the sources of `checkout` break."""
    sources = os.pathsep.join(str(checkout / "packages" / package / "src") for package in PACKAGES)
    linter = Path(sys.executable).parent / "lint-imports"
    environment = os.environ | {"PYTHONPATH": sources}  # found before the installed ones
    run = subprocess.run(
        [linter, "--no-cache"], cwd=checkout, env=environment, capture_output=True, text=True, check=False
    )
    assert "Contracts: " in run.stdout, run.stdout + run.stderr
    return {line.removesuffix(" BROKEN") for line in run.stdout.splitlines() if line.endswith(" BROKEN")}


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of the files that import-linter reads."""
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    for package in PACKAGES:
        source = Path("packages", package, "src")
        shutil.copytree(ROOT / source, tmp_path / source, ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


def test_every_contract_holds(checkout: Path) -> None:
    assert broken_contracts(checkout) == set()


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: f"{fault.contract}: {fault.line}")
def test_a_contract_breaks_on_the_fault_that_it_is_there_for(checkout: Path, fault: Fault) -> None:
    module = checkout / "packages" / fault.module
    module.write_text(f"{module.read_text()}\n{fault.line}\n")

    broken = broken_contracts(checkout)

    assert broken == {contracts()[fault.contract]}


def test_no_contract_is_without_a_planted_fault() -> None:
    assert {fault.contract for fault in FAULTS} == set(contracts())
