"""The requirements in the workspace's pyproject.toml files, as far as a lock file has to hold them."""

import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name


@dataclass(frozen=True, slots=True)
class Declared:
    """A requirement on a package from an index, and the file that declares it."""

    requirement: Requirement
    source: str

    @property
    def name(self) -> str:
        """The package, as lock files write it."""
        return canonicalize_name(self.requirement.name)


@dataclass(frozen=True, slots=True)
class Declarations:
    """All pyproject.toml files of a checkout."""

    root: dict[str, Any]  # Any: what TOML can hold
    members: dict[str, tuple[str, dict[str, Any]]]  # by package: the path of its file, and its table `project`

    @property
    def python(self) -> str:
        """The lowest version of Python that the checkout is for, such as 3.13."""
        return str(self.root["project"]["requires-python"]).removeprefix(">=").split(",")[0]

    def of_export(self, options: tuple[str, ...]) -> list[Declared]:
        """Return the direct requirements of these options of `uv export`; those of a member replace the member."""
        given = dict(zip(options[::2], options[1::2], strict=True))
        if group := given.get("--only-group"):
            found = list(self._group(group))
        else:
            found = list(self._member(given["--package"], {given["--extra"]}, seen=set()))
        return [self._overridden(each) for each in found]

    def _member(self, name: str, extras: set[str], *, seen: set[tuple[str, str]]) -> Iterator[Declared]:
        source, project = self.members[name]
        optional: dict[str, list[str]] = project.get("optional-dependencies", {})
        for part in ("", *sorted(extras)):
            if (name, part) in seen:
                continue
            seen.add((name, part))
            for line in optional.get(part, []) if part else project.get("dependencies", []):
                declared = Declared(Requirement(line), source)
                if declared.name in self.members:
                    yield from self._member(declared.name, declared.requirement.extras, seen=seen)
                else:
                    yield declared

    def _group(self, name: str) -> Iterator[Declared]:
        for line in self.root["dependency-groups"][name]:
            if isinstance(line, str):
                yield Declared(Requirement(line), "pyproject.toml")
            else:
                yield from self._group(line["include-group"])

    def _overridden(self, declared: Declared) -> Declared:
        line = self.overriding(declared.name)
        return Declared(line, "pyproject.toml (override-dependencies)") if line else declared

    def overriding(self, name: str) -> Requirement | None:
        """Return the line of uv's `override-dependencies` that replaces each requirement on this package."""
        lines = map(Requirement, self.root.get("tool", {}).get("uv", {}).get("override-dependencies", []))
        return next((line for line in lines if canonicalize_name(line.name) == canonicalize_name(name)), None)


def declarations_of(root: Path) -> Declarations:
    """Read the pyproject.toml files of a checkout."""
    members: dict[str, tuple[str, dict[str, Any]]] = {}
    for path in sorted(root.glob("packages/*/pyproject.toml")):
        project = tomllib.loads(path.read_text())["project"]
        members[canonicalize_name(project["name"])] = (path.relative_to(root).as_posix(), project)
    return Declarations(tomllib.loads((root / "pyproject.toml").read_text()), members)
