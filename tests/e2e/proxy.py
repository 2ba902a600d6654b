"""A real HAProxy with the configuration of deploy/, in front of the given upstreams."""

import os
import re
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from app_runtime.testing.processes import free_port, port_is_free, spawn, wait_until

CONFIGURATION = Path(__file__).parents[2] / "deploy" / "haproxy.cfg"
ONE_SERVER = '    server api1 "${PROXY_UPSTREAM}"\n'
PATIENCE = 90.0


@contextmanager
def proxied(*upstreams: str, log: Path, origins: str = "", metrics_port: int | None = None) -> Iterator[int]:
    """Put HAProxy in front of each upstream (`127.0.0.1:8000`) and give its port; skips where it is not installed.

    Pages of these `origins`, separated by blanks, may read the answers of HAProxy itself.
    """
    haproxy, port = executable(), free_port()
    configuration = log.with_suffix(".cfg")
    servers = "".join(f"    server api{number} {upstream}\n" for number, upstream in enumerate(upstreams, start=1))
    configuration.write_text(CONFIGURATION.read_text().replace(ONE_SERVER, servers))
    environment = {
        **os.environ,
        "PROXY_LISTEN": f"127.0.0.1:{port}",
        "PROXY_CORS_ORIGINS": origins,
        "PROXY_ERRORS": str(CONFIGURATION.with_name("haproxy-errors")),
        "PROXY_METRICS_LISTEN": f"127.0.0.1:{metrics_port or free_port()}",
    }
    with log.open("wb") as output:
        process = spawn([haproxy, "-db", "-f", configuration], env=environment, cwd=log.parent, output=output)
    try:
        assert wait_until(lambda: not port_is_free(port) or process.poll() is not None, PATIENCE)
        assert process.poll() is None, log.read_text()
        yield port
    finally:
        process.kill()
        process.wait()


def executable() -> str:
    """Return where HAProxy is; skips where it is not installed."""
    haproxy = shutil.which("haproxy", path=f"{os.environ['PATH']}{os.pathsep}/usr/sbin")
    if haproxy is None:
        pytest.skip("HAProxy is not installed")
    return haproxy


def release() -> tuple[int, int]:
    """Return the release of HAProxy that is installed, such as 3.4."""
    said = subprocess.run([executable(), "-v"], capture_output=True, text=True, check=True).stdout
    found = re.search(r"version (\d+)\.(\d+)", said)
    assert found, said
    return int(found[1]), int(found[2])


def exchange(port: int, request: bytes) -> bytes:
    """Send bytes and return the answer once the proxy closes the connection; fail if it stays open."""
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as client:
        client.sendall(request)
        return b"".join(iter(lambda: client.recv(65536), b""))
