"""The containers of compose.yaml: started with empty volumes, used as strangers and operators do, and removed."""

import email
import json
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from email.message import EmailMessage
from email.policy import default
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from app_runtime.testing.processes import free_port, wait_until
from tests.packaging.engine import compose, docker, require_engine, run

PATIENCE = 120.0
"""Seconds until a test gives up. No test asserts how long anything took."""
SERVICES = ("proxy", "worker", "mail", "prometheus")
MESSAGE = re.compile(
    r"^-+ MESSAGE FOLLOWS -+\n(?:mail options: [^\n]*\n\n)?(.*?)^-+ END MESSAGE -+$", re.MULTILINE | re.DOTALL
)


class Stack:
    """A project of Compose with ports and networks of its own, and a mail server that prints its mails."""

    def __init__(self, folder: Path, *, pooled: bool = False) -> None:
        self.name = f"smoke-{os.getpid()}"
        self.url = f"http://127.0.0.1:{(port := free_port())}"
        self.prometheus = f"http://127.0.0.1:{(prometheus := free_port())}"
        self._env = {name: value for name, value in os.environ.items() if not name.startswith("APP_")} | {
            "PROXY_PORT": f"127.0.0.1:{port}",
            "PROMETHEUS_PORT": str(prometheus),
            "MAIL_PORT": str(free_port()),
            "FRONT_NETWORK": f"172.31.{os.getpid() % 250}.0/24",
            **_postgres_that_is_here(),
        }
        (folder / "override.json").write_text(json.dumps({"services": {"mail": _printing_mail_server()}}))
        names = ("compose.yaml", *(["compose.pooler.yaml"] if pooled else []), str(folder / "override.json"))
        files = [word for name in names for word in ("--file", name)]
        self._command = (*compose(), "--project-name", self.name, "--project-directory", ".", *files)

    def compose(self, *arguments: str) -> str:
        """Run `docker compose …` for this project and return what it prints."""
        return run(*self._command, *arguments, env=self._env)

    def containers(self, service: str) -> list[str]:
        """Return the ids of the containers of a service that run."""
        labels = (f"com.docker.compose.project={self.name}", f"com.docker.compose.service={service}")
        return docker("ps", "--quiet", *(f"--filter=label={label}" for label in labels)).split()

    def sql(self, query: str) -> list[str]:
        """Run a query as Postgres's administrator and return its rows."""
        (postgres,) = self.containers("postgres")
        psql = ("psql", "--username=postgres", "--dbname=app", "--host=/var/run/postgresql", "-qAtc", query)
        return docker("exec", postgres, *psql).splitlines()

    def mails_to(self, address: str) -> list[EmailMessage]:
        """Return the mails to an address, oldest first."""
        (server,) = self.containers("mail")
        texts = MESSAGE.findall(docker("logs", server))
        mails = [email.message_from_string(text, policy=default) for text in texts]
        return [mail for mail in mails if mail["To"] == address]

    def token_mailed_to(self, address: str) -> str:
        """Wait for a mail with a link, and return the token in it."""
        until(lambda: self.mails_to(address), f"a mail has come to {address}")
        body = self.mails_to(address)[-1].get_body(("plain",))
        assert body is not None
        link = re.search(r"https?://\S+", body.get_content())
        assert link is not None
        return parse_qs(urlsplit(link[0]).fragment.partition("?")[2])["token"][0]


@contextmanager
def running(folder: Path, *scale: str, pooled: bool = False) -> Iterator[Stack]:
    """Build the images, start all of it with empty volumes, and leave nothing behind; skips without an engine."""
    require_engine()
    stack = Stack(folder, pooled=pooled)
    try:
        stack.compose("up", "--build", "--detach", *(f"--scale={each}" for each in scale), *SERVICES)
        yield stack
    finally:
        stack.compose("down", "--volumes", "--timeout", "20")


def until(condition: Any, what: str) -> None:  # Any: whatever is true or not
    """Wait until the condition is true; fail with `what` after PATIENCE."""
    assert wait_until(lambda: bool(condition()), PATIENCE), f"waited in vain until {what}"


def _postgres_that_is_here() -> dict[str, str]:
    """Use an image of PostgreSQL 18 that this machine has, if any: the image that compose.yaml pins must be fetched."""
    here = docker("image", "ls", "--quiet", "postgres:18")
    return {"POSTGRES_IMAGE": "postgres:18"} if here else {}


def _printing_mail_server() -> dict[str, Any]:  # Any: a service of Compose
    """A service that runs aiosmtpd of this environment: the image that compose.yaml names must be fetched."""
    spec = find_spec("aiosmtpd")
    assert spec
    assert spec.origin
    packages = Path(spec.origin).parents[1]
    handler = ["-c", "aiosmtpd.handlers.Debugging", "stdout"]
    return {
        "image": f"python:{sys.version_info.major}.{sys.version_info.minor}-slim",
        "command": ["python", "-m", "aiosmtpd", "-n", "-l", "0.0.0.0:1025", *handler],
        "environment": {"PYTHONPATH": "/packages", "PYTHONUNBUFFERED": "1"},
        "volumes": [f"{packages}:/packages:ro"],
    }
