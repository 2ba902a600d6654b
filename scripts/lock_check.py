"""Finds faults of the committed lock files from the tree alone, and asks no index (ADR-0011)."""

import sys
from collections.abc import Iterable, Iterator, Mapping
from importlib.metadata import PackageNotFoundError, distribution
from itertools import combinations
from pathlib import Path

from declarations import Declarations, Declared, declarations_of
from packaging.markers import Marker
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from pins import LOCKS, LockError, Pin, read

PLATFORMS = (("linux", "Linux", "posix"), ("darwin", "Darwin", "posix"), ("win32", "Windows", "nt"))


def faults(root: Path) -> Iterator[str]:
    """Yield the faults of a checkout's lock files, a line each; nothing if images can install the files.

    They have to satisfy the declarations, pin no unneeded package, and be parts of one resolution. Later versions on
    an index are no fault: only `make lock` moves a pin.
    """
    declarations = declarations_of(root)
    locks: dict[str, list[Pin]] = {}
    for path, options in LOCKS.items():
        try:
            locks[path] = pins = read(root / path, name=path)
        except LockError as error:
            yield str(error)
            continue
        declared = declarations.of_export(options)
        yield from unsatisfied(path, pins, declared, python=declarations.python)
        yield from unneeded(path, pins, declared, members=declarations.members)
        yield from (f"{path} has no hash for {pin.name}" for pin in pins if pin.version and not pin.hashes)
        yield from incomplete(path, pins, declared, declarations)
    yield from disagreeing(locks)


def environments(python: str) -> list[dict[str, str]]:
    """Return the environments to evaluate markers in: each platform with the lowest Python."""
    version = {"python_version": python, "python_full_version": f"{python}.0"}
    names = ("sys_platform", "platform_system", "os_name")
    return [version | dict(zip(names, platform, strict=True)) for platform in PLATFORMS]


def applies(marker: Marker | str | None, environment: dict[str, str]) -> bool:
    """Whether a requirement or a pin with this marker counts in the environment."""
    return not marker or Marker(str(marker)).evaluate({"extra": "", **environment})


def unsatisfied(path: str, pins: list[Pin], declared: Iterable[Declared], *, python: str) -> Iterator[str]:
    """Yield the requirements that the pins do not meet on some platform."""
    for each in declared:
        for environment in environments(python):
            if applies(each.requirement.marker, environment):
                fault = unmet(path, pins, each.requirement, environment=environment)
                if fault:
                    yield f"{fault}{each.source} declares {each.requirement}"
                    break


def unmet(path: str, pins: list[Pin], requirement: Requirement, *, environment: dict[str, str]) -> str | None:
    """Return the first half of a sentence about why the pins do not meet a requirement there."""
    name = canonicalize_name(requirement.name)
    found = [pin for pin in pins if pin.name == name and applies(pin.marker, environment)]
    if not found:
        where = f" for {environment['sys_platform']}" if any(pin.name == name for pin in pins) else ""
        return f"{path} does not pin {name}{where}: "
    for pin in found:
        if pin.version and not requirement.specifier.contains(pin.version, prereleases=True):
            return f"{path} pins {name}=={pin.version}: "
    return None


def unneeded(
    path: str, pins: list[Pin], declared: Iterable[Declared], *, members: Mapping[str, object]
) -> Iterator[str]:
    """Yield the pins that no declaration leads to any more, by the `# via` notes of the file."""
    names = {pin.name for pin in pins}
    needed = {each.name for each in declared}
    for pin in pins:
        for parent in sorted(pin.via - names - members.keys()):
            yield f"{path} pins {pin.name} for {parent}, which it does not pin"
    while more := {pin.name for pin in pins if pin.via & needed} - needed:
        needed |= more
    yield from (f"{path} pins {pin.name}: nothing that is declared needs it" for pin in pins if pin.name not in needed)


def incomplete(path: str, pins: list[Pin], declared: list[Declared], declarations: Declarations) -> Iterator[str]:
    """Yield missing requirements of pinned packages, as far as the same versions are installed here.

    The requirements of a version never change. So this may find more faults on one machine than on another, but
    no wrong ones.
    """
    here = {"sys_platform": sys.platform}
    extras: dict[str, set[str]] = {}
    for each in declared:
        extras.setdefault(each.name, set()).update(each.requirement.extras)
    for pin in pins:
        for requirement in requirements_of(pin) if applies(pin.marker, here) else ():
            wanted = any(applies(requirement.marker, {"extra": extra}) for extra in {"", *extras.get(pin.name, ())})
            if not wanted or declarations.overriding(requirement.name):
                continue
            if fault := unmet(path, pins, requirement, environment=here):
                yield f"{fault}{pin.name}=={pin.version} needs {requirement}"


def requirements_of(pin: Pin) -> list[Requirement]:
    """Return the requirements of the installed package, if it has the pinned version."""
    try:
        installed = distribution(pin.name)
    except PackageNotFoundError:
        return []
    return [Requirement(line) for line in installed.requires or []] if installed.version == pin.version else []


def disagreeing(locks: Mapping[str, list[Pin]]) -> Iterator[str]:
    """Yield the packages that two files pin differently: the files are parts of one resolution."""
    for (one, these), (other, those) in combinations(locks.items(), 2):
        for name in sorted({pin.name for pin in these} & {pin.name for pin in those}):
            first, second = ({pin.version: pin.hashes for pin in pins if pin.name == name} for pins in (these, those))
            both = first.keys() & second.keys()
            if not both:
                yield f"{one} pins {name}=={next(iter(first))}, and {other} pins {name}=={next(iter(second))}"
            elif any(first[version] != second[version] for version in both):
                yield f"{one} and {other} pin the same {name} with different hashes"
