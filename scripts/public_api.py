"""Write packages/*/API.txt, the names that others may import, and find changes that break them (ADR-0052).

`make public-api` writes, `make check-public-api` compares. A name is public if it has no leading underscore and was
not imported; in a module with `__all__`, if it is there. The sources are read, never run.
"""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import griffe
from members import ROOT, Member, ReleaseError, has_commit, members_of, unpack
from switches import SwitchError, is_on, off

# A constant, such as a revision or a limit, may get another value.
HARMLESS = {griffe.BreakageKind.ATTRIBUTE_CHANGED_VALUE}


def load(sources: Path, module: str) -> griffe.Module:
    """Read the sources of a package."""
    loader = griffe.GriffeLoader(search_paths=[sources], allow_inspection=False)
    package = loader.load(module, try_relative_path=False)
    assert isinstance(package, griffe.Module)
    return package


def listing(package: griffe.Object) -> Iterator[str]:
    """Yield a line for each public name below a package, module or class."""
    for _, member in sorted(package.members.items()):
        if not member.is_public:
            continue
        if isinstance(member, griffe.Alias):
            yield f"{member.path} is {member.target_path}"
        elif isinstance(member, griffe.Class):
            bases = ", ".join(str(base) for base in member.bases)
            yield f"class {member.path}({bases})"
            yield from listing(member)
        elif isinstance(member, griffe.Module):
            yield from listing(member)
        elif isinstance(member, griffe.Function):
            yield member.signature(name=member.path)
        elif isinstance(member, griffe.Attribute) and member.annotation:
            yield f"{member.path}: {member.annotation}"
        else:
            yield member.path


def text_of(member: Member) -> str:
    """Return the text that the API.txt of a package has to have."""
    package = load(member.path / "src", member.module)
    package.members.pop("features", None)
    return "".join(f"{line}\n" for line in listing(package))


def breakages(member: Member) -> list[str]:
    """Return the names that the last release of a package offered and its sources break, one line each.

    Raises:
        ReleaseError: if the clone does not go back to that release.
    """
    with TemporaryDirectory(prefix="released-") as folder:
        unpack(member.root, member.released, Path(folder))
        if not (sources := Path(folder, "packages", member.folder, "src")).is_dir():
            return []  # it has never been released, so nobody uses it
        before = load(sources, member.module)
        after = load(member.path / "src", member.module)
        found = [each for each in griffe.find_breaking_changes(before, after) if each.kind not in HARMLESS]
        return list(dict.fromkeys(line_of(each) for each in found))  # a property can be found twice


def line_of(breakage: griffe.Breakage) -> str:
    """Return the name that breaks, its parameter if only that does, and how."""
    of = next((each for each in (breakage.new_value, breakage.old_value) if isinstance(each, griffe.Parameter)), None)
    return f"{breakage.obj.path}{f'({of.name})' if of else ''}: {breakage.kind.value}"


def unannounced(member: Member) -> list[str]:
    """Return the breakages of a package, unless a `removal` fragment announces them, or such checks are off."""
    if not is_on(member.root, "public_api") or not is_on(member.root, "fragments"):
        return []
    return [] if "removal" in member.kinds else breakages(member)


def check(members: list[Member]) -> Iterator[str]:
    """Yield the faults: a listing that is not fresh, a breaking change that is not announced."""
    for member in members:
        if not (path := member.path / "API.txt").exists() or path.read_text() != text_of(member):
            stale = f"{path.relative_to(member.root)} is not what the sources offer"
            yield f"{stale}: type `make public-api`, and read the diff"
        if not has_commit(member.root, member.released):
            print(f"{member.name}: the clone does not go back to its last release, nothing is compared")
        elif lines := unannounced(member):
            yield f"{member.name} breaks what its last release offered, without a `removal` fragment that says so:"
            yield from (f"  {line}" for line in lines)


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--check", action="store_true", help="change nothing; fail if a listing is stale or broken")
    parser.add_argument("--root", type=Path, default=ROOT, help="the checkout (default: this one)")
    arguments = parser.parse_args()
    members = list(members_of(arguments.root).values())
    if not arguments.check:
        for member in members:
            (member.path / "API.txt").write_text(text := text_of(member))
            print(f"packages/{member.folder}/API.txt: {len(text.splitlines())} names")
        return 0
    try:
        if not is_on(arguments.root, "public_api"):
            print(off("public_api"))
            return 0
        wrong = list(check(members))
    except (ReleaseError, SwitchError) as error:
        wrong = [str(error)]
    print("\n".join(wrong) or f"{len(members)} packages offer what they list, and take back nothing unsaid.")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
