"""docs/how-to/upgrading.md works as it is written: a renamed clone takes a later version without conflict."""

import subprocess
from pathlib import Path

import pytest

from tests.docs.checkout import AUTHOR, ROOT, copied_checkout, reader_environment
from tests.docs.pages import steps_of
from tests.docs.performing import reader
from tests.reads import UPGRADED

pytestmark = UPGRADED

PAGE = ROOT / "docs/how-to/upgrading.md"
URL = "https://git.example.com/groundwork"
ENVIRONMENT = reader_environment(**AUTHOR)


def commit(checkout: Path, changes: dict[str, tuple[str, str]]) -> None:
    """Replace one text in each of these files, and commit."""
    for name, (old, new) in changes.items():
        text = (checkout / name).read_text()
        assert text.count(old) == 1, f"{old!r} is in {name} {text.count(old)} times"
        (checkout / name).write_text(text.replace(old, new))
    git(checkout, "commit", "--quiet", "--all", "--message", "A change")


def git(checkout: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["git", *arguments], cwd=checkout, env=ENVIRONMENT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.timeout(400)
def test_a_renamed_clone_takes_a_later_version_as_the_page_says(tmp_path: Path) -> None:
    with (
        copied_checkout() as groundwork,
        reader(tmp_path, env=ENVIRONMENT, replace={URL: str(groundwork)}) as performer,
    ):
        for step in steps_of(PAGE):
            if "git fetch" in step.text:  # both have a new commit by then
                # Groundwork changes a line that holds the renamed name, and the team changes the same file.
                line = "from app_auth.auth import Auth"
                commit(groundwork, {"packages/auth/src/app_auth/accounts.py": (line, f"{line}  # new")})
                commit(
                    tmp_path / "acme", {"packages/auth/src/acme_auth/accounts.py": ('"""Services', '"""Our services')}
                )
            performer.do(step)

    merged = (tmp_path / "acme/packages/auth/src/acme_auth/accounts.py").read_text()
    assert merged.startswith('"""Our services')
    assert "from acme_auth.auth import Auth  # new\n" in merged
    differing = git(tmp_path / "acme", "diff", "--name-only", "vendor", "groundwork-update")
    assert differing == "packages/auth/src/acme_auth/accounts.py\n"
