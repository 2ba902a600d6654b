"""What long tests are about: with CHANGED=… (ADR-0047) they run if one of these paths, or their own, has changed."""

import pytest

_OF_JOBS = ("packages/db/src/**", "packages/runtime/src/**", "packages/worker/src/**", "tests/e2e/processes.py")
_PERFORMED = ("docs/**", "tests/docs/*.py")
_SETTINGS = "packages/runtime/src/*/configuration.py"

SITE_OF_JOBS = pytest.mark.reads(*_OF_JOBS, "tests/e2e/chaos/*.py")
CLOCKS = pytest.mark.reads(*_OF_JOBS, "packages/auth/src/**", "tests/e2e/test_clocks.py")
SILENCE = pytest.mark.reads(*_OF_JOBS, "tests/e2e/proxy.py")
LOGS = pytest.mark.reads("packages/runtime/src/**", "packages/*/src/*/main.py")
FIGURES = pytest.mark.reads("deploy/**", "packages/*/src/*/telemetry/**", "packages/*/src/*/metrics.py")
BACKUP = pytest.mark.reads("docs/how-to/operations.md", "migrations/**", "packages/db/src/*/models/**")
OPERATED = pytest.mark.reads(*_PERFORMED, "packages/worker/src/*/command_line/**", "packages/worker/src/*/metrics.py")
TUTORIAL = pytest.mark.reads(*_PERFORMED, "scripts/dev*.py", "scripts/generator/**")
RENAMED = pytest.mark.reads("scripts/rename.py", "scripts/install.sh", "migrations/env.py", _SETTINGS)
UPGRADED = pytest.mark.reads("docs/how-to/upgrading.md", "scripts/rename.py", "scripts/install.sh")
DEV = pytest.mark.reads("scripts/dev*.py", "scripts/*.sh", ".env.example", "packages/*/src/*/testing/**", _SETTINGS)
INSTALLED = pytest.mark.reads("scripts/install.sh", "scripts/uv.sh")
CLIENTS = pytest.mark.reads("scripts/client.py", "packages/api/openapi.json")
LOCKED = pytest.mark.reads(
    "scripts/*lock*.py", "scripts/pins.py", "scripts/uv.sh", "**/pyproject.toml", "**/requirements.lock"
)
