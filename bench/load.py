"""Loads a loopback port for a given time, and measures the cost for the server."""

import asyncio
import json
import os
import re
import shutil
import statistics
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

CLOCK_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Request:
    """One request, as it stands on the wire."""

    method: str
    path: str
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""

    def encode(self, port: int) -> bytes:
        """Return the bytes to send."""
        lines = [f"{self.method} {self.path} HTTP/1.1", f"Host: 127.0.0.1:{port}", f"Content-Length: {len(self.body)}"]
        lines += [f"{name}: {value}" for name, value in self.headers]
        return "\r\n".join([*lines, "", ""]).encode() + self.body


@dataclass(frozen=True)
class Figures:
    """The figures of one run of load."""

    per_second: float
    p50_ms: float
    p99_ms: float
    cpu_us: float
    """CPU time of the server process per request: the steadier figure on a busy machine."""
    refused: int
    """Answers that were not 2xx."""


def cpu_seconds(pid: int) -> float:
    """Return the CPU time that a process has used, user and system."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / CLOCK_TICKS


def memory_mb(pid: int) -> float:
    """Return the memory of a process in MB: its own, and its share of what others have mapped too (PSS)."""
    rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return int(rollup.partition("\nPss:")[2].split()[0]) / 1024


class Connection:
    """A keep-alive connection that sends one request after the other."""

    def __init__(self, port: int) -> None:
        self.port = port

    async def send(self, request: Request) -> tuple[int, bytes]:
        """Return the status and the body of the answer."""
        if not hasattr(self, "reader"):
            self.reader, self.writer = await asyncio.open_connection("127.0.0.1", self.port)
        self.writer.write(request.encode(self.port))
        head = await self.reader.readuntil(b"\r\n\r\n")
        length = re.search(rb"content-length: (\d+)", head)
        body = await self.reader.readexactly(int(length[1])) if length else b""
        return int(head[9:12]), body


async def load(
    port: int,
    pid: int,
    *,
    seconds: float,
    connections: int,
    next_request: Callable[[int, bytes], Request],
) -> Figures:
    """Let each connection send `next_request(its number, the last body)` for some seconds."""
    latencies: list[float] = []
    refused = 0
    end = time.monotonic() + seconds

    async def run(number: int) -> None:
        nonlocal refused
        connection, body = Connection(port), b""
        while time.monotonic() < end:
            request = next_request(number, body)
            start = time.perf_counter()
            status, body = await connection.send(request)
            latencies.append(time.perf_counter() - start)
            refused += status >= 300

    before, start = cpu_seconds(pid), time.monotonic()
    await asyncio.gather(*(run(number) for number in range(connections)))
    used, elapsed = cpu_seconds(pid) - before, time.monotonic() - start
    cuts = statistics.quantiles(latencies, n=100)
    count = len(latencies)
    return Figures(count / elapsed, cuts[49] * 1e3, cuts[98] * 1e3, used / count * 1e6, refused)


def wrk(port: int, pid: int, request: Request, *, seconds: int, connections: int) -> Figures | None:
    """Load one GET with wrk, which leaves more of the machine to the server; None where it is not installed."""
    program = shutil.which("wrk")
    if program is None:
        return None
    headers = [argument for name, value in request.headers for argument in ("-H", f"{name}: {value}")]
    command = [program, "-t1", f"-c{connections}", f"-d{seconds}s", "--latency", *headers]
    before = cpu_seconds(pid)
    output = subprocess.run(
        [*command, f"http://127.0.0.1:{port}{request.path}"], capture_output=True, text=True, check=True
    ).stdout
    used = cpu_seconds(pid) - before
    count = int(re.search(r"(\d+) requests in", output)[1])  # type: ignore[index]  # wrk always prints it
    refused = re.search(r"Non-2xx or 3xx responses: (\d+)", output)
    milliseconds = {"us": 1e-3, "ms": 1.0, "s": 1e3}
    p50, p99 = (
        float(value) * milliseconds[unit] for value, unit in re.findall(r"(?:50|99)% +([\d.]+)(us|ms|s)", output)
    )
    return Figures(count / seconds, p50, p99, used / count * 1e6, int(refused[1]) if refused else 0)


def json_request(path: str, payload: object) -> Request:
    """Return a POST of JSON."""
    return Request("POST", path, (("Content-Type", "application/json"),), json.dumps(payload).encode())
