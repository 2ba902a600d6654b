"""Reads and writes the pins of the requirements.lock files (ADR-0011). Needs nothing but Python."""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

# The options of `uv export` that make each file.
LOCKS: Mapping[str, tuple[str, ...]] = {
    "packages/api/requirements.lock": ("--package", "app-api", "--extra", "tracing"),
    "packages/worker/requirements.lock": ("--package", "app-worker", "--extra", "tracing"),
    "deploy/requirements.lock": ("--only-group", "build"),
    "migrations/requirements.lock": ("--package", "app-db", "--extra", "migrations"),
}
HEADER = """\
# All that the image installs from an index, with hashes; our own packages are installed beside it as wheels.
# Written by `make lock` from the pyproject.toml files. To move it: `make lock UNTIL=<date>`.
"""
PINNED = re.compile(r"([A-Za-z0-9._-]+)(?:\[[^\]]*\])? ?(?:==(\S+)|@ ?\S+)(?: ; ([^\\]+?))?(?: \\)?")
SEED = """\
version = 1
requires-python = ">=3"
{options}"""
# uv reads only name and version of it, and asks the machine's own index for the rest.
PREFERRED = """
[[package]]
name = "{name}"
version = "{version}"
source = {{ registry = "." }}
"""


class LockError(Exception):
    """A lock file cannot be read or made; the message says why."""


@dataclass(frozen=True, slots=True)
class Pin:
    """One package of a lock file. Hashes are a set: their order says nothing."""

    name: str
    version: str  # empty for a package that a URL names
    marker: str = ""
    hashes: frozenset[str] = frozenset()
    via: frozenset[str] = frozenset()  # the packages that need it
    lines: tuple[str, ...] = ()  # as they stand in the file

    @property
    def text(self) -> str:
        """The lines of the file, with these hashes in their order."""
        first, *rest = self.lines
        notes = [line for line in rest if line.lstrip().startswith("#")]
        hashes = [f"    --hash={each}" for each in sorted(self.hashes)]
        pinned = [line.removesuffix(" \\") for line in (first, *hashes)]
        return "\n".join([" \\\n".join(pinned), *notes, ""])


def read(path: Path, *, name: str) -> list[Pin]:
    """Return the pins of a lock file; errors call the file `name`.

    Raises:
        LockError: if the file is not there, or a line is no pin.
    """
    if not path.exists():
        raise LockError(f"{name} is missing")
    return list(parse(path.read_text(), name=name))


def parse(text: str, *, name: str) -> Iterator[Pin]:
    """Yield the pins of a lock file's text.

    Raises:
        LockError: for a line that is no pin, such as git's mark of a conflict.
    """
    pin: Pin | None = None
    for number, line in enumerate(text.splitlines(), start=1):
        if line[:1] not in {" ", "#", ""}:
            if pin:
                yield pin
            if not (found := PINNED.fullmatch(line)):
                raise LockError(f"{name}, line {number} is not a pinned version: {line}")
            pin = Pin(found[1].lower(), found[2] or "", (found[3] or "").strip(), lines=(line,))
        elif pin and line[:1] == " ":
            hashes = {each.removesuffix(" \\").strip() for each in re.findall(r"--hash=(\S+)", line)}
            via = set(re.findall(r"^ +# (?:via )? *([\w.:-]+)$", line)) - {"via"}
            pin = replace(pin, hashes=pin.hashes | hashes, via=pin.via | via, lines=(*pin.lines, line))
    if pin:
        yield pin


def keep_hashes(fresh: str, committed: Iterable[Pin], *, name: str) -> str:
    """Return a fresh lock's text in which each version that was pinned before keeps its hashes.

    Otherwise an index that has a file more or less than another one would change lines that nobody asked to change.
    If the old hashes have none in common with the fresh ones, they are of other files: then the fresh ones count.
    """
    before = {(pin.name, pin.version): pin.hashes for pin in committed}
    pins = list(parse(fresh, name=name))
    kept = [replace(pin, hashes=before.get((pin.name, pin.version), pin.hashes)) for pin in pins]
    return "".join((old if old.hashes & new.hashes else new).text for old, new in zip(kept, pins, strict=True))


def seed(pins: Iterable[Pin], others: Mapping[str, str], *, exclude_newer: str | None) -> str:
    """Return a uv.lock that makes uv prefer these versions; uv resolves others, and moves what does not fit."""
    versions = {name: {version} for name, version in others.items()}
    pinned: dict[str, set[str]] = {}
    for pin in pins:
        if pin.version:
            pinned.setdefault(pin.name, set()).add(pin.version)
    packages = [
        PREFERRED.format(name=name, version=version)
        for name, several in sorted((versions | pinned).items())
        for version in sorted(several)
    ]
    # uv ignores the versions of a lock that was made for another date.
    options = f'\n[options]\nexclude-newer = "{exclude_newer}"\n' if exclude_newer else ""
    return SEED.format(options=options) + "".join(packages)
