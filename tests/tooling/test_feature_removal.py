"""make feature-remove: it removes all files of a feature, and its tables by a revision; the rest stays green."""

import re
from collections.abc import Iterator

import pytest

from tests.tooling.features import ARCHITECTURE, MIGRATIONS, UNPLANTED, Copy, copy_of_checkout

REGISTERS = ("tests/attack/test_cases.py", "tests/docs/test_configuration_page.py")

pytestmark = [pytest.mark.timeout(1200), pytest.mark.slow]


@pytest.fixture(scope="module")
def checkout() -> Iterator[Copy]:
    """A copy with a feature of the team."""
    with copy_of_checkout() as copy:
        copy.write("clippings", "url:str title:str? tags:list[str]")
        copy.commit()
        yield copy


def prove_the_rest(checkout: Copy) -> None:
    """Run discovery, all checks, the tests of migrations, and tests of API and worker."""
    checkout.prove("-c", "import app_api.app, app_worker.main")
    checkout.make("check")
    checkout.prove("-m", "pytest", "-q", *MIGRATIONS, "-k", UNPLANTED)
    checkout.prove("-m", "pytest", "-q", *ARCHITECTURE, *REGISTERS)
    checkout.prove("-m", "pytest", "-q", "packages/api/tests/test_docs.py", "packages/api/tests/test_probes.py")
    checkout.prove("-m", "pytest", "-q", "packages/worker/tests/test_handlers.py", "packages/worker/tests/test_main.py")


def test_a_feature_that_a_team_has_written_goes_without_a_trace_but_its_revisions(checkout: Copy) -> None:
    done = checkout.prove("scripts/feature.py", "remove", "--name=clippings")

    left = checkout.git("ls-files", "--cached", "--others", "--exclude-standard").splitlines()
    there = [path for path in left if "clippings" in path and (checkout.root / path).exists()]
    assert [path.partition("_add_")[0][:19] for path in there if "_add_" in path] == ["migrations/versions"]
    assert len(there) == 2, there
    assert "_remove_clippings_" in done
    mentions = done.partition("Still mentioned in:")[2].partition("Next:")[0].split()
    assert mentions == ["tests/tooling/test_feature_removal.py"]  # this file
    prove_the_rest(checkout)


@pytest.mark.parametrize(
    ("name", "dependencies"),
    [
        ("export", []),
        ("email_change", []),
        ("magic_link", []),
        ("api_keys", []),
        ("totp", ["pyotp", "segno"]),
        ("passkeys", ["webauthn"]),
        ("providers", ["joserfc"]),
        ("webhooks", ["httpx2"]),
    ],
)
def test_an_optional_feature_of_ours_goes_too(checkout: Copy, name: str, dependencies: list[str]) -> None:
    checkout.commit()

    done = checkout.prove("scripts/feature.py", "remove", f"--name={name}")

    assert f"_remove_{name}_" in done
    assert sorted(re.findall(r"dropped  (\S+) from", done)) == dependencies
    left = [path for path in checkout.root.rglob(f"features/{name}") if path.is_dir() and ".venv" not in path.parts]
    assert left == []
    if dependencies:
        checkout.make("lock")
    prove_the_rest(checkout)


def test_what_is_not_there_is_not_removed(checkout: Copy) -> None:
    before = checkout.changes()

    done = checkout.run("scripts/feature.py", "remove", "--name=nothing")

    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "nothing: there is no such feature below packages/*/src/*/features/\n"
    assert checkout.changes() == before
