"""Fail if code of a package differs from a base and no fragment tells its users (`make check-fragments BASE=…`)."""

import argparse
import sys
from pathlib import Path

from members import KINDS, ROOT, Member, ReleaseError, git, members_of
from switches import SwitchError, is_on, off


def is_silent(member: Member, base: str) -> bool:
    """Whether sources or declarations have changed since the branch left `base`, without a line for the changelog.

    A line is a fragment that was added or changed, or the changelog itself, into which a release puts the fragments.
    """
    folder = f"packages/{member.folder}"
    names = git(member.root, "diff", "--name-only", f"{base}...HEAD", "--", folder)
    changed = [name.removeprefix(f"{folder}/") for name in names.splitlines()]
    kept = [name for name in changed if (member.path / name).exists()]
    code = any(name.startswith("src/") or name == "pyproject.toml" for name in changed)
    return code and not any(name.startswith("changelog.d/") or name == "CHANGELOG.md" for name in kept)


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("base", help="what the change is to be merged into, such as origin/main")
    parser.add_argument("--root", type=Path, default=ROOT, help="the checkout (default: this one)")
    arguments = parser.parse_args()
    members = members_of(arguments.root).values()
    try:
        if not is_on(arguments.root, "fragments"):
            print(off("fragments"))
            return 0
        silent = [each for each in members if is_silent(each, arguments.base)]
    except (ReleaseError, SwitchError) as error:
        print(error, file=sys.stderr)
        return 1
    misspelt = [path for each in members for path in each.misspelt]
    for path in misspelt:
        print(f"{path.relative_to(arguments.root)} has no kind, so no changelog will hold it: {', '.join(KINDS)}")
    for member in silent:
        print(
            f"{member.name} has changed and says nothing: add a sentence for its users to "
            f"packages/{member.folder}/changelog.d/ (CONTRIBUTING.md), a .misc.md where they notice nothing"
        )
    return 1 if silent or misspelt else 0


if __name__ == "__main__":
    sys.exit(main())
