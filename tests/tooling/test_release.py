"""scripts/release.py: it refuses a package that is not ready, a plan changes nothing, and a release is complete."""

import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import yaml
from members import ReleaseError, members_of
from packaging.version import Version
from release import bumped, plan

from tests.docs.checkout import AUTHOR
from tests.tooling.workspace import Workspace

ROOT = Path(__file__).parents[2]
RELEASE_WORKFLOW = yaml.safe_load((ROOT / ".github/workflows/release.yml").read_text())
ENVIRONMENT = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "VIRTUAL_ENV", "COVERAGE_"))} | AUTHOR


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path)


def release(checkout: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command: list[str | Path] = [sys.executable, checkout / "scripts" / "release.py", *arguments]
    return subprocess.run(command, cwd=checkout, env=ENVIRONMENT, capture_output=True, text=True, check=False)


def must(*command: str | Path, cwd: Path) -> str:
    run = subprocess.run(command, cwd=cwd, env=ENVIRONMENT, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr
    return run.stdout


@pytest.mark.parametrize(
    ("version", "bump", "expected"),
    [
        ("0.3.4", "patch", "0.3.5"),
        ("0.3.4", "minor", "0.4.0"),
        ("0.3.4", "major", "1.0.0"),
        ("1.9.0", "minor", "1.10.0"),
    ],
)
def test_a_bump_gives_the_next_version(version: str, bump: str, expected: str) -> None:
    assert bumped(Version(version), bump) == Version(expected)


def test_a_plan_names_versions_fragments_bounds_and_the_tag(workspace: Workspace) -> None:
    workspace.fragment("db", "removal")

    lines = str(plan(workspace.root, "db", "major")).splitlines()

    assert lines[0] == "pet-db 1.4.2 -> 2.0.0, tag pet-db-v2.0.0"
    assert "  changelog.d/+removal.removal.md" in lines
    assert "  packages/auth: pet-db>=1.4,<2 -> pet-db>=2.0,<3" in lines
    assert "  packages/api: pet-db[extra]>=1.4,<2 -> pet-db[extra]>=2.0,<3" in lines


def test_a_plan_names_the_packages_that_need_a_release_after_it(workspace: Workspace) -> None:
    workspace.fragment("db", "removal")

    last = str(plan(workspace.root, "db", "major")).splitlines()[-1]

    assert last == "  To be released after it, because their last releases refuse it: pet-api, pet-auth"


def test_a_bound_that_admits_the_new_version_stays(workspace: Workspace) -> None:
    workspace.fragment("db")

    assert plan(workspace.root, "db", "minor").moves == []


def test_a_release_asks_for_the_versions_that_it_was_tested_with(workspace: Workspace) -> None:
    workspace.fragment("api")

    moves = plan(workspace.root, "api", "minor").moves

    assert [(move.old, move.new) for move in moves] == [("pet-db[extra]>=1.4,<2", "pet-db[extra]>=1.4.2,<2")]


@pytest.mark.parametrize(
    ("version", "bound"), [("0.2.0", ">=0.2,<0.3"), ("0.2.3", ">=0.2.3,<0.3"), ("3.1.0", ">=3.1,<4")]
)
def test_a_bound_ends_before_the_version_that_may_break(version: str, bound: str, workspace: Workspace) -> None:
    workspace.fragment("api")
    workspace.replace("packages/db/pyproject.toml", 'version = "1.4.2"', f'version = "{version}"')

    moves = plan(workspace.root, "api", "minor").moves

    assert [move.new for move in moves] == [f"pet-db[extra]{bound}"]


def test_a_release_of_uncommitted_changes_is_refused(workspace: Workspace) -> None:
    workspace.fragment("db")
    workspace.write("left.txt", "over")

    with pytest.raises(ReleaseError, match=r"commit or remove your changes first(.|\n)*left\.txt"):
        plan(workspace.root, "db", "minor")


def test_a_release_without_a_fragment_is_refused(workspace: Workspace) -> None:
    with pytest.raises(ReleaseError, match="no fragment: there is nothing to release"):
        plan(workspace.root, "db", "minor")


def test_a_release_with_a_fragment_of_a_misspelt_kind_is_refused(workspace: Workspace) -> None:
    """towncrier 26.9: `build` leaves such a fragment out and succeeds, `check` does not."""
    workspace.fragment("db")
    workspace.fragment("db", "bugfx")

    with pytest.raises(ReleaseError, match=r"\+bugfx\.bugfx\.md"):
        plan(workspace.root, "db", "minor")


def test_a_release_in_a_clone_that_does_not_go_back_to_the_last_one_is_refused(
    workspace: Workspace, tmp_path: Path
) -> None:
    """forkline/ingress-nginx PR #67, rash-sh/rash PR #1754: a clone of depth 1 knows no earlier release."""
    workspace.fragment("db")
    workspace.git("clone", "--quiet", "--depth", "1", workspace.root.as_uri(), str(tmp_path / "shallow"))

    with pytest.raises(ReleaseError, match=r"is not in this clone: fetch its whole history"):
        plan(tmp_path / "shallow", "db", "minor")


def test_a_release_whose_tag_is_there_is_refused(workspace: Workspace) -> None:
    workspace.fragment("db")
    workspace.git("tag", "pet-db-v1.5.0")

    with pytest.raises(ReleaseError, match=r"the tag pet-db-v1\.5\.0 is there already"):
        plan(workspace.root, "db", "minor")


@pytest.mark.parametrize(
    ("version", "kind", "bump", "needed"),
    [
        ("1.4.2", "removal", "minor", "major"),
        ("1.4.2", "feature", "patch", "minor"),
        ("0.4.2", "removal", "patch", "minor"),
    ],
)
def test_a_bump_that_hides_what_the_fragments_say_is_refused(
    version: str, kind: str, bump: str, needed: str, workspace: Workspace
) -> None:
    workspace.replace("packages/api/pyproject.toml", 'version = "1.4.2"', f'version = "{version}"')
    workspace.fragment("api", kind)

    with pytest.raises(ReleaseError, match=f"need at least {needed}"):
        plan(workspace.root, "api", bump)


@pytest.mark.parametrize(
    ("version", "kind", "bump"),
    [
        ("1.4.2", "bugfix", "patch"),
        ("1.4.2", "feature", "minor"),
        ("0.4.2", "feature", "patch"),
        ("0.4.2", "removal", "minor"),
    ],
)
def test_the_smallest_bump_that_says_enough_is_accepted(
    version: str, kind: str, bump: str, workspace: Workspace
) -> None:
    workspace.replace("packages/api/pyproject.toml", 'version = "1.4.2"', f'version = "{version}"')
    workspace.fragment("api", kind)

    assert plan(workspace.root, "api", bump).version == bumped(Version(version), bump)


def test_the_kind_of_a_fragment_is_found_wherever_it_stands_in_the_name(workspace: Workspace) -> None:
    workspace.write("packages/db/changelog.d/17.removal.1.md", "Pets have no names.\n")
    workspace.write("packages/db/changelog.d/+since-1.4.2.feature.md", "Pets have numbers.\n")

    assert members_of(workspace.root)["db"].kinds >= {"removal", "feature"}


def test_a_bound_that_somebody_chose_is_not_moved_but_refused(workspace: Workspace) -> None:
    workspace.replace("packages/auth/pyproject.toml", "pet-db>=1.4,<2", "pet-db~=1.4.2")
    workspace.fragment("db")

    with pytest.raises(ReleaseError, match=r"pet-auth asks for pet-db~=1\.4\.2, which does not fit 1\.5\.0"):
        plan(workspace.root, "db", "minor")


def test_a_package_is_not_released_with_what_no_release_of_another_has(workspace: Workspace) -> None:
    workspace.fragment("db")
    workspace.fragment("api")

    with pytest.raises(ReleaseError, match="pet-db has changes that no release has: release it first"):
        plan(workspace.root, "api", "minor")


def test_a_release_that_breaks_without_saying_so_is_refused(workspace: Workspace) -> None:
    workspace.fragment("db")
    workspace.replace(workspace.source("db"), "def feed(", "def nourish(")

    with pytest.raises(ReleaseError, match=r"pet_db\.feed: Public object was removed"):
        plan(workspace.root, "db", "minor")


def test_a_package_that_is_not_there_is_named_with_those_that_are(workspace: Workspace) -> None:
    with pytest.raises(ReleaseError, match="one of api, auth, db can be released"):
        plan(workspace.root, "cats", "minor")


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clone of the last commit of this checkout in which app-db breaks something and the others are released."""
    checkout = tmp_path_factory.mktemp("release") / "clone"
    must("git", "clone", "--quiet", ROOT, checkout, cwd=ROOT)
    (checkout / "packages/db/changelog.d/+rehearsal.removal.md").write_text("Pets have no names any more.\n")
    for fragment in (checkout / "packages/runtime/changelog.d").glob("*.md"):  # as if it was released before
        fragment.unlink()
    must("git", "add", "--all", cwd=checkout)
    must("git", "commit", "--quiet", "--message", "Take away the names", cwd=checkout)
    return checkout


@pytest.fixture(scope="module")
def version(clone: Path) -> str:
    """The version of the rehearsed release."""
    return f"{members_of(clone)['db'].version.major + 1}.0.0"


@pytest.fixture(scope="module")
def planned(clone: Path, version: str) -> subprocess.CompletedProcess[str]:
    """The plan, made before the release."""
    return release(clone, "db", "major")


@pytest.fixture(scope="module")
def untouched(clone: Path, planned: subprocess.CompletedProcess[str]) -> str:
    """The status and the last subject of the clone after the plan was shown."""
    return must("git", "status", "--porcelain", cwd=clone) + must("git", "log", "-1", "--format=%s", cwd=clone)


@pytest.fixture(scope="module")
def released(clone: Path, untouched: str) -> Path:
    """The clone, after the release."""
    done = release(clone, "db", "major", "--yes")
    assert done.returncode == 0, done.stdout + done.stderr
    return clone


def test_a_release_is_only_planned_unless_it_is_wanted(
    planned: subprocess.CompletedProcess[str], untouched: str
) -> None:
    assert planned.returncode == 0, planned.stderr
    assert "Nothing has been changed." in planned.stdout
    assert untouched == "Take away the names\n"


@pytest.mark.timeout(400)
def test_a_release_is_a_tagged_commit_that_the_next_one_names(released: Path, version: str) -> None:
    subjects = must("git", "log", "-2", "--format=%s", cwd=released).splitlines()

    assert subjects == [f"Name the commit that is app-db {version}", f"Release app-db {version}"]
    commit = must("git", "rev-parse", "HEAD~1", cwd=released)
    assert must("git", "rev-parse", f"app-db-v{version}^{{commit}}", cwd=released) == commit
    assert must("git", "cat-file", "-t", f"app-db-v{version}", cwd=released) == "tag\n"
    assert (released / "packages/db/RELEASED").read_text() == f"{version} {commit}"
    assert must("git", "status", "--porcelain", cwd=released) == ""


def test_a_release_turns_the_fragments_into_the_changelog(released: Path, version: str) -> None:
    changelog = (released / "packages/db/CHANGELOG.md").read_text()

    notes = changelog.partition(f"\n## {version} - ")[2].partition("\n## ")[0]
    assert "- Pets have no names any more." in notes
    assert members_of(released)["db"].fragments == []


def test_a_release_moves_the_bounds_of_dependents_and_tells_their_users(released: Path, version: str) -> None:
    major = version.partition(".")[0]

    for folder in ("auth", "api", "worker"):
        declaration = (released / "packages" / folder / "pyproject.toml").read_text()
        assert re.search(rf'"app-db(\[\w+\])?>={major}\.0,<{int(major) + 1}"', declaration)
        note = released / f"packages/{folder}/changelog.d/+needs-app-db.feature.md"
        assert note.read_text() == f"Needs app-db {version}.\n"


@pytest.mark.timeout(400)
def test_a_released_wheel_installs_and_its_dependents_accept_it(released: Path, version: str, tmp_path: Path) -> None:
    uv = ("sh", ROOT / "scripts" / "uv.sh")
    wheel = next((released / "dist").glob(f"app_db-{version}-*.whl"))
    for package in ("runtime", "auth"):
        must(*uv, "build", "-q", "--wheel", "--no-sources", "-o", tmp_path, f"packages/{package}", cwd=released)
    must(*uv, "venv", "--quiet", "--python", sys.executable, tmp_path / "environment", cwd=released)
    python = tmp_path / "environment/bin/python"

    must(*uv, "pip", "install", "-q", "--python", python, wheel, *tmp_path.glob("*.whl"), cwd=released)

    must(*uv, "pip", "check", "--python", python, cwd=tmp_path)
    ask = "from importlib.metadata import version; import app_db.models; print(version('app-db'))"
    assert must(python, "-I", "-c", ask, cwd=tmp_path) == f"{version}\n"
    assert "app_db/py.typed" in zipfile.ZipFile(wheel).namelist()


@pytest.mark.timeout(400)
def test_the_workflow_builds_what_the_tag_names(released: Path, version: str) -> None:
    steps = RELEASE_WORKFLOW["jobs"]["build"]["steps"]
    (build,) = (step["run"] for step in steps if step.get("name") == "Build")
    shutil.rmtree(released / "dist")

    built = must("env", f"GITHUB_REF_NAME=app-db-v{version}", "bash", "-e", "-c", build, cwd=released)

    assert built.splitlines() == [f"dist/app_db-{version}-py3-none-any.whl"]


def test_the_workflow_starts_for_the_tag_of_a_release(workspace: Workspace) -> None:
    (pattern,) = RELEASE_WORKFLOW[True]["push"]["tags"]  # YAML 1.1 reads the key `on` as true

    tags = [member.tag(Version("1.20.3")) for member in members_of(ROOT).values()]

    expression = pattern.replace(".", r"\.").replace("*", ".*")
    assert [tag for tag in tags if not re.fullmatch(expression, tag)] == []


@pytest.mark.parametrize(
    ("workflow", "job"), [("ci", "check"), ("ci", "test"), ("ci", "fragments"), ("release", "build")]
)
def test_what_compares_with_the_last_release_has_the_whole_history(workflow: str, job: str) -> None:
    steps = yaml.safe_load((ROOT / f".github/workflows/{workflow}.yml").read_text())["jobs"][job]["steps"]

    (checkout,) = (step for step in steps if step.get("uses", "").startswith("actions/checkout@"))

    assert checkout["with"]["fetch-depth"] == 0


@pytest.mark.parametrize(
    ("arguments", "options"), [(("BUMP=minor",), "db minor"), (("BUMP=minor", "YES=1"), "db minor --yes")]
)
def test_make_hands_over_what_was_typed(arguments: tuple[str, ...], options: str) -> None:
    commands = must("make", "--no-print-directory", "--dry-run", "release", "PACKAGE=db", *arguments, cwd=ROOT)

    assert commands.splitlines()[-1].strip().endswith(f"scripts/release.py {options}")


def test_what_was_released_is_not_released_again(released: Path) -> None:
    again = release(released, "db", "major")

    assert again.returncode == 1
    assert "there is nothing to release" in again.stderr
