"""The cost of a request: the real server and a bare FastAPI app, side by side in one run (bench/README.md).

uv run python bench/http.py [--seconds 5] [--gets] [--json]
"""

# ruff: noqa: E402
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[0] = str(ROOT)  # this folder would hide the standard library's `http`

import argparse
import asyncio
import base64
import json
import os
import secrets
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from importlib.metadata import version

from app_auth.limits import ThrottleSettings
from app_db.testing import databases
from app_runtime.testing.processes import free_port
from app_runtime.testing.servers import PostgresServer, ValkeyServer
from bench.load import Connection, Figures, Request, json_request, load, memory_mb, wrk

PASSWORD = "correct horse battery 42"
CONNECTIONS = 8  # fewer than the read pool has, so that nobody queues for one
LOGINS = 50


@contextmanager
def served(command: list[str], port: int, path: str, environment: dict[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    """Start a server and wait for its first answer."""
    process = subprocess.Popen([sys.executable, *command], env={**os.environ, **environment}, cwd=ROOT)
    try:
        while True:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=1).close()
                break
            except OSError:
                if process.poll() is not None:
                    raise SystemExit(f"{command} ended with {process.returncode}") from None
                time.sleep(0.05)
        yield process
    finally:
        process.terminate()
        process.wait()


def key_ring(kid: str) -> str:
    """Return the setting of a ring with one fresh key."""
    return json.dumps([{"kid": kid, "secret": base64.b64encode(secrets.token_bytes(32)).decode()}])


def environment_of(url: str, valkey_url: str, port: int) -> dict[str, str]:
    """Return the environment variables of the measured API."""
    return {
        "APP_ENV": "test",
        "APP_DATABASE__URL": url,
        "APP_REDIS__URL": valkey_url,
        "APP_HTTP__PORT": str(port),
        "APP_AUTH__KEYS": key_ring("k"),
        "APP_AUTH__REFRESH_KEYS": key_ring("r"),
        "APP_AUTH__TOKEN_KEYS": key_ring("t"),
        "APP_AUTH__PEPPERS": key_ring("p"),
        "APP_AUTH__VERIFICATION": "off",
        # Limits are counted as always but never reached, although all requests come from one address.
        **{f"APP_THROTTLE__{name.upper()}": "10000/s" for name in ThrottleSettings.model_fields},
        "APP_LOG__LEVEL": "ERROR",
    }


async def sign_in(port: int, email: str) -> dict[str, str]:
    """Register and sign in; return the tokens."""
    connection = Connection(port)
    await connection.send(json_request("/auth/register", {"email": email, "password": PASSWORD}))
    _, body = await connection.send(login_request(email))
    tokens: dict[str, str] = json.loads(body)
    return tokens


def login_request(email: str) -> Request:
    """Return the form of a sign-in."""
    form = f"username={email}&password={PASSWORD.replace(' ', '+')}".encode()
    return Request("POST", "/auth/access-token", (("Content-Type", "application/x-www-form-urlencoded"),), form)


LIVE = Request("GET", "/probe/live")


def me_of(tokens: dict[str, str], path: str = "/auth/me") -> Request:
    """Return a signed-in request."""
    return Request("GET", path, (("Authorization", f"Bearer {tokens['access_token']}"),))


async def measure_gets(
    api: tuple[int, int], bare: tuple[int, int], tokens: dict[str, str], seconds: int
) -> dict[str, Figures]:
    """Load each GET in turn; `api` and `bare` are ports with the ids of their processes."""
    me, raw = me_of(tokens), me_of(tokens, "/raw")
    gets = {
        "bare": (bare, Request("GET", "/bare"), CONNECTIONS),
        "live": (api, LIVE, CONNECTIONS),
        "raw asyncpg": (bare, raw, CONNECTIONS),
        "me": (api, me, CONNECTIONS),
        "raw asyncpg, 1 connection": (bare, raw, 1),
        "me, 1 connection": (api, me, 1),
    }
    return {name: await get(*to, request, seconds, connections=many) for name, (to, request, many) in gets.items()}


async def measure_rest(port: int, pid: int, tokens: list[dict[str, str]], seconds: int) -> dict[str, Figures]:
    """Load the other routes in turn, and two GETs beside logins."""
    figures: dict[str, Figures] = {}

    def refresh(number: int, body: bytes) -> Request:
        token = json.loads(body)["refresh_token"] if body else tokens[number]["refresh_token"]
        return json_request("/auth/refresh-token", {"refresh_token": token})

    figures["refresh"] = await load(port, pid, seconds=seconds, connections=len(tokens), next_request=refresh)

    def login(number: int, _: bytes) -> Request:
        return login_request(f"user{number % 4}@example.com")

    figures["login"] = await load(port, pid, seconds=seconds, connections=4, next_request=login)
    for name, request in {"live": LIVE, "me": me_of(tokens[0])}.items():
        storm = asyncio.create_task(load(port, pid, seconds=seconds, connections=LOGINS, next_request=login))
        await asyncio.sleep(0.5)
        calm = lambda *_, request=request: request  # noqa: E731
        figures[f"{name} during {LOGINS} logins"] = await load(
            port, pid, seconds=seconds - 1, connections=1, next_request=calm
        )
        figures["logins at that time"] = await storm
    return figures


async def get(port: int, pid: int, request: Request, seconds: int, *, connections: int = CONNECTIONS) -> Figures:
    """Load a GET with wrk, or with our own client."""
    measured = await asyncio.to_thread(wrk, port, pid, request, seconds=seconds, connections=connections)
    return measured or await load(port, pid, seconds=seconds, connections=connections, next_request=lambda *_: request)


async def measure(api: tuple[int, int], bare: tuple[int, int], seconds: int, *, gets: bool) -> dict[str, Figures]:
    """Load each route in turn, or only the GETs."""
    tokens = [await sign_in(api[0], f"user{number}@example.com") for number in range(4)]
    figures = await measure_gets(api, bare, tokens[0], seconds)
    return figures if gets else figures | await measure_rest(*api, tokens, seconds)


def report(figures: dict[str, Figures]) -> None:
    """Print the table of bench/README.md."""
    bare = figures["bare"].cpu_us
    print(f"{'route':26} {'req/s':>8} {'p50 ms':>8} {'p99 ms':>8} {'CPU µs':>8} {'x bare':>7} {'not 2xx':>8}")
    for name, row in figures.items():
        print(
            f"{name:26} {row.per_second:8.0f} {row.p50_ms:8.2f} {row.p99_ms:8.2f} {row.cpu_us:8.0f} "
            f"{row.cpu_us / bare:7.1f} {row.refused:8}"
        )
    for raw, ours in (("bare", "live"), ("raw asyncpg", "me"), ("raw asyncpg, 1 connection", "me, 1 connection")):
        print(f"{ours} / {raw}: {figures[ours].cpu_us / figures[raw].cpu_us:.2f}")
    packages = ("fastapi", "starlette", "uvicorn", "sqlalchemy", "asyncpg", "pydantic", "pyjwt", "bcrypt")
    print(f"Python {sys.version.split()[0]}, " + ", ".join(f"{name} {version(name)}" for name in packages))


def main() -> None:
    """Start everything, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=5, help="for each route")
    parser.add_argument("--gets", action="store_true", help="only bare, live, raw asyncpg and me")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON, too")
    arguments = parser.parse_args()
    with PostgresServer.temporary(durable=True) as postgres, ValkeyServer.temporary() as valkey:
        url = asyncio.run(databases.recreate(postgres.url("postgres"), "app_bench_test"))
        asyncio.run(databases.migrate(url, root=ROOT))
        port, bare_port = free_port(), free_port()
        environment = environment_of(url, valkey.url, port)
        bare = ["-m", "bench.bare", str(bare_port)]
        with (
            served(["-m", "app_api"], port, "/probe/live", environment) as api,
            served(bare, bare_port, "/bare", environment) as bare_api,
        ):
            print(f"an API process that waits: {memory_mb(api.pid):.0f} MB (PSS)", flush=True)
            ends = (port, api.pid), (bare_port, bare_api.pid)
            figures = asyncio.run(measure(*ends, arguments.seconds, gets=arguments.gets))
    report(figures)
    if arguments.json:
        print(json.dumps({name: asdict(row) for name, row in figures.items()}))


if __name__ == "__main__":
    main()
