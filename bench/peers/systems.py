"""The systems that are compared, each pinned and installed into an environment of its own."""

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / ".data" / "peers"
"""Ignored by git, and left alone by `make clean`."""

OURS = "SELECT count(*) FROM jobs WHERE kind LIKE 'peers.%' AND state NOT IN ('completed', 'discarded', 'cancelled')"
OBAN = "SELECT count(*) FROM oban_jobs WHERE state NOT IN ('completed', 'discarded', 'cancelled')"
AWA = "SELECT count(*) FROM awa.jobs WHERE state NOT IN ('completed', 'failed', 'cancelled')"
PROCRASTINATE = "SELECT count(*) FROM procrastinate_jobs WHERE status IN ('todo', 'doing')"


@dataclass(frozen=True)
class System:
    """A system with the options under which it is measured."""

    adapter: str
    left: str
    """SQL that counts the jobs that have not ended, or the name of the sorted set in Valkey that holds them."""
    slots: int = 10
    mode: str = ""
    requires: tuple[str, ...] = ()

    @property
    def python(self) -> Path:
        """The interpreter of its environment; ours is the one that runs the bench."""
        return FOLDER / self.adapter / "bin" / "python" if self.requires else Path(sys.executable)

    def install(self) -> str:
        """Install what is pinned, unless it is there; return why it cannot be, or nothing."""
        marker, wanted = self.python.parent / "installed", "\n".join(self.requires)
        if not self.requires or (marker.exists() and marker.read_text() == wanted):
            return ""
        folder = self.python.parent.parent
        commands: tuple[list[str | Path], ...] = (
            ["venv", "--quiet", "--clear", "--python", sys.executable, folder],
            ["pip", "install", "--quiet", "--python", self.python, *self.requires],
        )
        for command in commands:
            uv: list[str | Path] = ["sh", "scripts/uv.sh", *command]
            run = subprocess.run(uv, cwd=ROOT, capture_output=True, text=True, check=False)
            if run.returncode:
                return " ".join(run.stderr.split())[-300:]
        marker.write_text(wanted)
        return ""


_ASYNCPG, _UVLOOP = "asyncpg==0.32.0", "uvloop==0.23.0"
_PSYCOPG = ("psycopg[binary]==3.3.9", "psycopg-pool==3.3.3")
_ARQ = ("arq==0.28.0", "redis==5.3.1", _ASYNCPG, _UVLOOP)
_SAQ = ("saq==0.26.4", "redis==7.4.1", "typing-extensions==4.16.0", _ASYNCPG, _UVLOOP)
_PROCRASTINATE = ("procrastinate==3.10.0", *_PSYCOPG, _UVLOOP)
_PGQUEUER = ("pgqueuer==1.6.0", _ASYNCPG, _UVLOOP)
_OBAN = ("oban==0.7.0", *_PSYCOPG, _UVLOOP)
_AWA = ("awa-pg==0.6.9", _ASYNCPG, _UVLOOP)
SYSTEMS = {
    "groundwork-tx": System("groundwork", OURS, mode="tx"),
    "groundwork-lease": System("groundwork", OURS, mode="lease"),
    "groundwork-lease-100": System("groundwork", OURS, mode="lease", slots=100),
    "arq": System("arq", "arq:queue", slots=100, requires=_ARQ),
    "saq": System("saq", "saq:default:incomplete", requires=_SAQ),
    "procrastinate": System("procrastinate", PROCRASTINATE, requires=_PROCRASTINATE),
    "pgqueuer": System("pgqueuer", "SELECT count(*) FROM pgqueuer", requires=_PGQUEUER),
    "pgqueuer-100": System("pgqueuer", "SELECT count(*) FROM pgqueuer", slots=100, requires=_PGQUEUER),
    "awa": System("awa", AWA, requires=_AWA),
    "oban": System("oban", OBAN, requires=_OBAN),
    "oban-100": System("oban", OBAN, slots=100, requires=_OBAN),
}
