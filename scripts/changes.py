"""Which tests a change concerns: `make test-e2e CHANGED=origin/main` leaves out long ones that are about others."""

import subprocess
from collections.abc import Iterable
from pathlib import Path, PurePosixPath


def changed_paths(root: Path, base: str) -> list[str] | None:
    """Return the paths that differ from where the branch left `base`, uncommitted ones too; None if git cannot tell."""
    since = _git(root, "merge-base", base, "HEAD")
    if since is None:
        return None
    differing = _git(root, "diff", "--name-only", "--no-renames", "-z", since.strip())
    untracked = _git(root, "ls-files", "--others", "--exclude-standard", "-z")
    if differing is None or untracked is None:
        return None
    return sorted({path for path in f"{differing}\0{untracked}".split("\0") if path})


def concerns(patterns: Iterable[str], changed: Iterable[str]) -> bool:
    """Return whether one of the paths matches one of the patterns, in which `**` stands for any folders."""
    paths = [PurePosixPath(path) for path in changed]
    return any(path.full_match(pattern) for pattern in patterns for path in paths)


def _git(root: Path, *arguments: str) -> str | None:
    """Return the output of git; None if it fails, or is not there."""
    try:
        run = subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True, check=False)
    except OSError:
        return None
    return run.stdout if run.returncode == 0 else None
