"""Release one package: `make release PACKAGE=db BUMP=minor` shows the plan, with YES=1 it is done (ADR-0052).

Changelog, version, the bounds of dependents, lock files, API.txt and RELEASED are written, a wheel is built into dist/,
and two commits and a tag are made: the tagged commit is the release, the next one names it in RELEASED. Nothing is
pushed.
"""

import argparse
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from members import ROOT, Member, ReleaseError, git, members_of, require_commit
from packaging.requirements import Requirement
from packaging.version import Version
from public_api import text_of, unannounced
from switches import SwitchError, is_on

BUMPS = ("patch", "minor", "major")
# The bump that a kind of fragment needs from 1.0 on; before 1.0, one less (Semantic Versioning, 4).
NEEDED = {"removal": 2, "feature": 1}
BOUND = re.compile(r">=[\d.]+,<[\d.]+(?=$| ?;)")


@dataclass(frozen=True, slots=True)
class Move:
    """A requirement of one member on another, and the one that takes its place."""

    dependent: Member
    old: str
    new: str


@dataclass(frozen=True, slots=True)
class Plan:
    """All that a release will do."""

    member: Member
    version: Version
    moves: list[Move]

    @property
    def tag(self) -> str:
        """The name of the release in git."""
        return self.member.tag(self.version)

    @property
    def others(self) -> list[Move]:
        """The moves in packages that depend on this one."""
        return [move for move in self.moves if move.dependent is not self.member]

    def __str__(self) -> str:
        """Return the text that a person reads before saying yes."""
        lines = [f"{self.member.name} {self.member.version} -> {self.version}, tag {self.tag}"]
        lines += [f"  changelog.d/{path.name}" for path in self.member.fragments]
        lines += [f"  packages/{each.dependent.folder}: {each.old} -> {each.new}" for each in self.moves]
        if self.others:
            names = ", ".join(dict.fromkeys(each.dependent.name for each in self.others))
            lines.append(f"  To be released after it, because their last releases refuse it: {names}")
        return "\n".join(lines)


def bumped(version: Version, bump: str) -> Version:
    """Return the version after this one."""
    if bump == "major":
        return Version(f"{version.major + 1}.0.0")
    if bump == "minor":
        return Version(f"{version.major}.{version.minor + 1}.0")
    return Version(f"{version.major}.{version.minor}.{version.micro + 1}")


def moved(member: Member, requirement: str, version: Version) -> Move:
    """Return the requirement from this version, the tested one, up to the next one that may break.

    Raises:
        ReleaseError: for a bound of another form than `>=a,<b`, which somebody chose for a reason.
    """
    if not BOUND.search(requirement):
        raise ReleaseError(
            f"{member.name} asks for {requirement}, which does not fit {version}: decide what it is to ask for, in "
            f"packages/{member.folder}/pyproject.toml, and commit that first"
        )
    end = f"{version.major + 1}" if version.major else f"0.{version.minor + 1}"
    return Move(member, requirement, BOUND.sub(f">={str(version).removesuffix('.0')},<{end}", requirement))


def moves_of(members: Mapping[str, Member], released: Member, version: Version) -> Iterator[Move]:
    """Yield the bounds to move: those that exclude the new version, and those of the released member that are too wide.

    Raises:
        ReleaseError: if it needs a member with unreleased changes.
    """
    for member in members.values():
        for line in sorted(member.requirements):
            requirement = Requirement(line)
            if requirement.name == released.name and not requirement.specifier.contains(version):
                yield moved(member, line, version)
            needed = next((each for each in members.values() if each.name == requirement.name), None)
            if member is released and needed and requirement.specifier and needed is not member:
                if needed.fragments:
                    raise ReleaseError(f"{needed.name} has changes that no release has: release it first")
                if BOUND.search(line) and (move := moved(member, line, needed.version)).new != line:
                    yield move


def run(folder: Path, *command: str | Path) -> None:
    """Run a command whose output is shown only if it fails."""
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise ReleaseError(f"{done.stdout}{done.stderr}".strip())


def refuse_what_is_not_ready(member: Member, version: Version, bump: str) -> None:
    """Raise a ReleaseError unless there is something to release, all of it is committed, and the bump admits it."""
    if changes := git(member.root, "status", "--porcelain"):
        raise ReleaseError(f"commit or remove your changes first; a release is made of what is committed:\n{changes}")
    if git(member.root, "tag", "--list", member.tag(version)):
        raise ReleaseError(f"the tag {member.tag(version)} is there already")
    require_commit(member.root, member.released)
    if is_on(member.root, "fragments"):
        refuse_what_is_not_said(member, bump)


def refuse_what_is_not_said(member: Member, bump: str) -> None:
    """Raise a ReleaseError unless fragments announce the changes, and the bump is large enough for them."""
    if not member.fragments:
        raise ReleaseError(f"packages/{member.folder}/changelog.d/ has no fragment: there is nothing to release")
    # towncrier's build leaves out files without a kind, and succeeds.
    check = ("towncrier", "check", "--dir", member.path, "--compare-with", member.released)
    run(member.root, sys.executable, "-m", *check)
    needed = max(NEEDED.get(kind, 0) for kind in member.kinds) - (member.version.major == 0)
    if BUMPS.index(bump) < needed:
        raise ReleaseError(f"the fragments ({', '.join(sorted(member.kinds))}) need at least {BUMPS[needed]}")
    if lines := unannounced(member):
        raise ReleaseError("\n  ".join(["this breaks, and no `removal` fragment says so:", *lines]))


def plan(root: Path, folder: str, bump: str) -> Plan:
    """Return the plan of a release.

    Raises:
        ReleaseError: if the release is refused.
    """
    members = members_of(root)
    if folder not in members:
        raise ReleaseError(f"there is no packages/{folder}; one of {', '.join(members)} can be released")
    version = bumped(members[folder].version, bump)
    refuse_what_is_not_ready(members[folder], version, bump)
    return Plan(members[folder], version, list(moves_of(members, members[folder], version)))


def replace(path: Path, old: str, new: str) -> None:
    """Replace a text, which the file has to hold."""
    text = path.read_text()
    if old not in text:
        raise ReleaseError(f"{path} does not hold {old!r}")
    path.write_text(text.replace(old, new))


def write(release: Plan) -> None:
    """Write all files of a release, and build its wheel."""
    member, version = release.member, release.version
    run(member.path, sys.executable, "-m", "towncrier", "build", "--yes", "--version", str(version))
    replace(member.path / "pyproject.toml", f'\nversion = "{member.version}"\n', f'\nversion = "{version}"\n')
    for move in release.moves:
        replace(move.dependent.path / "pyproject.toml", f'"{move.old}"', f'"{move.new}"')
    for move in release.others:
        note = move.dependent.path / "changelog.d" / f"+needs-{member.name}.feature.md"
        note.write_text(f"Needs {member.name} {version}.\n")
    if is_on(member.root, "public_api"):
        (member.path / "API.txt").write_text(text_of(member))
    run(member.root, sys.executable, member.root / "scripts" / "lock.py", "--root", member.root)
    uv = ("sh", member.root / "scripts" / "uv.sh")
    run(member.root, *uv, "build", "--quiet", "--wheel", "--no-sources", "--out-dir", "dist", member.path)


def commit(release: Plan) -> None:
    """Commit the written files, tag that commit, and name it in RELEASED."""
    root, named = release.member.root, f"{release.member.name} {release.version}"
    git(root, "add", "--all")
    git(root, "commit", "--quiet", "--message", f"Release {named}")
    git(root, "tag", "--annotate", release.tag, "--message", named)
    (release.member.path / "RELEASED").write_text(f"{release.version} {git(root, 'rev-parse', 'HEAD')}")
    git(root, "commit", "--quiet", "--all", "--message", f"Name the commit that is {named}")


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--root", type=Path, default=ROOT, help="the checkout (default: this one)")
    parser.add_argument("package", help="its folder below packages/, such as db")
    parser.add_argument("bump", choices=BUMPS)
    parser.add_argument("--yes", action="store_true", help="do it; without, the plan is shown and nothing is changed")
    arguments = parser.parse_args()
    try:
        print(release := plan(arguments.root, arguments.package, arguments.bump))
    except (ReleaseError, SwitchError) as error:
        print(error, file=sys.stderr)
        return 1
    if not arguments.yes:
        print("Nothing has been changed. With YES=1 (--yes) it is.")
        return 0
    try:
        write(release)
        commit(release)
    except ReleaseError as error:
        print(f"{error}\nTo be where you were: git reset --hard && git clean -fd", file=sys.stderr)
        return 1
    print(f"Done. To publish it: git push origin HEAD {release.tag}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
