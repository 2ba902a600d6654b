"""Exits with 0 if this container answers: `health.py NAME_OF_THE_VARIABLE_WITH_THE_PORT PATH`."""

import http.client
import os
import sys
from pathlib import Path

LOOPBACK = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104  # who listens on all of them is asked on this one


def setting(name: str, default: str) -> str:
    """Return a setting as the application reads it, by app_runtime.configuration: what is empty is not set."""
    text = os.environ.get(name, "").strip()
    if not text and (path := os.environ.get(f"{name}_FILE", "").strip()):
        text = Path(path).read_text(encoding="utf-8-sig").strip()
    if not text and (path := os.environ.get("APP_SECRETS_FILE", "").strip()):
        lines = Path(path).read_text(encoding="utf-8-sig").splitlines()
        pairs = (line.strip().removeprefix("export ").partition("=") for line in lines)
        text = next((value.strip().strip("'\"") for key, _, value in pairs if key.strip() == name), "")
    return text or default


variable, path = sys.argv[1:]
host = setting(variable.removesuffix("PORT") + "HOST", "127.0.0.1")
port = setting(variable, {"APP_HTTP__PORT": "8000"}.get(variable, "9090"))
connection = http.client.HTTPConnection(LOOPBACK.get(host, host), int(port), timeout=2)
# The name that the check of the proxy asks for, too (deploy/haproxy.cfg).
connection.request("GET", path, headers={"Host": "localhost"})
sys.exit(connection.getresponse().status != http.HTTPStatus.OK)
