"""The settings of `make dev`: variables of the shell override your `.env`, which overrides generated secrets."""

import base64
import json
import os
import secrets
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DATA = ROOT / ".data"
GENERATED = DATA / "dev.env"
RUNNING = DATA / "run.env"
"""The environment that the running `make dev` gave its processes; `make psql` and the like read it."""

DATABASE_URL = "APP_DATABASE__URL"
REDIS_URL = "APP_REDIS__URL"
PORT = "APP_HTTP__PORT"


def read(path: Path) -> dict[str, str]:
    """The KEY=VALUE lines of a file, without quotes around the value; nothing when there is no file."""
    lines = path.read_text(encoding="utf-8-sig").splitlines() if path.exists() else []
    pairs = (line.strip().partition("=") for line in lines if "=" in line and not line.strip().startswith("#"))
    return {key.removeprefix("export ").strip(): _unquoted(value.strip()) for key, _, value in pairs}


def write(path: Path, environment: dict[str, str]) -> None:
    """Write the environment so that `read` returns it, readable by its owner only.

    Without quotes, `read` would drop quotes or blanks around a value. Line ends become blanks: only JSON has them.
    """
    unfinished = path.with_suffix(".new")
    unfinished.touch(mode=0o600)
    lines = (f"{key}='{' '.join(value.splitlines())}'\n" for key, value in environment.items())
    unfinished.write_text("".join(lines), encoding="utf-8")
    unfinished.replace(path)


def settings() -> dict[str, str]:
    """Return all settings but the URLs of servers that `make dev` starts; make missing secrets."""
    kept, new = read(GENERATED), _new_secrets()
    generated = {name: kept.get(name, value) for name, value in new.items()}  # none of a feature that was removed
    if generated != kept:
        write(GENERATED, generated)
    given = read(ROOT / ".env") | {key: value for key, value in os.environ.items() if key.startswith("APP_") and value}
    chosen = generated | {key: value for key, value in given.items() if value.strip()}  # empty counts as not set
    port = chosen.setdefault(PORT, "8000")
    return {
        "APP_ENV": "development",
        "APP_LOG__FORMAT": "console",
        "APP_PUBLIC_BASE_URL": f"http://localhost:{port}",
        **chosen,
    }


def _unquoted(value: str) -> str:
    quoted = len(value) > 1 and value[0] == value[-1] and value[0] in "'\""
    return value[1:-1] if quoted else value


def _new_secrets() -> dict[str, str]:
    rings = ["APP_AUTH__KEYS", "APP_AUTH__REFRESH_KEYS", "APP_AUTH__TOKEN_KEYS", "APP_AUTH__PEPPERS", "APP_JOBS__KEYS"]
    if any(ROOT.glob("packages/api/src/*_api/features/totp/settings.py")):  # a feature that may be removed
        rings.append("APP_TOTP__KEYS")
    return {ring: json.dumps([_new_key()]) for ring in rings} | {"APP_AUTH__ISSUER": "groundwork-dev"}


def _new_key() -> dict[str, str]:
    secret = base64.b64encode(secrets.token_bytes(32)).decode()
    return {"kid": f"dev-{secrets.token_hex(4)}", "alg": "HS256", "secret": secret, "state": "active"}
