"""make feature and make feature-remove: a written feature passes all checks unedited, and a failure leaves nothing."""

from collections.abc import Iterator

import pytest

from tests.tooling.features import ARCHITECTURE, MIGRATIONS, UNPLANTED, Copy, copy_of_checkout

BOOKMARKS = "url:str title:str? tags:list[str]"
EVERY_TYPE = (
    "label:str! note:text seen:bool n:int ratio:float price:decimal starts:datetime day:date link:UUID tags:list[str]"
)
EVERY_TYPE_OR_NULL = (
    "label:str? note:text? seen:bool? n:int? ratio:float? price:decimal? starts:datetime? day:date? link:UUID! "
    "tags:list[str]?"
)
NO_KEY = "note:text? stars:int"
TESTS = ("packages/db/tests/features", "packages/api/tests/features")

pytestmark = [pytest.mark.timeout(1200), pytest.mark.slow]


@pytest.fixture(scope="module")
def checkout() -> Iterator[Copy]:
    """A copy with four features: bookmarks, one with all types, one with all types or null, one without a key."""
    with copy_of_checkout() as copy:
        copy.write("bookmarks", BOOKMARKS)
        copy.write("day_trees", EVERY_TYPE)
        copy.write("moments", EVERY_TYPE_OR_NULL)
        copy.write("entries", NO_KEY)
        yield copy


def test_a_feature_is_fourteen_files_and_edits_none_but_the_description_of_the_api(checkout: Copy) -> None:
    changes = checkout.changes()

    assert [line for line in changes if not line.startswith("?? ")] == [" M packages/api/openapi.json"]
    assert len([line for line in changes if "bookmarks" in line]) == 14
    assert len(changes) == 4 * 14 + 1


def test_what_was_written_passes_make_check(checkout: Copy) -> None:
    checkout.make("check")


def test_what_was_written_passes_its_own_tests_with_every_line_and_branch_run(checkout: Copy) -> None:
    features = ",".join(f"*/features/{name}/*" for name in ("bookmarks", "day_trees", "entries", "moments"))

    checkout.prove("-m", "coverage", "run", "-m", "pytest", "-q", *TESTS)

    checkout.prove("-m", "coverage", "combine", "--quiet")
    checkout.prove("-m", "coverage", "report", f"--include={features}", "--fail-under=100")


def test_the_kernel_stays_green_with_features_in_it(checkout: Copy) -> None:
    checkout.prove("-m", "pytest", "-q", *MIGRATIONS, "-k", UNPLANTED)
    checkout.prove("-m", "pytest", "-q", *ARCHITECTURE)
    checkout.prove("-m", "pytest", "-q", "packages/api/tests/test_any_input.py", "packages/api/tests/test_docs.py")


@pytest.mark.parametrize(
    ("name", "fields", "reason"),
    [
        ("bookmarks", "url:str", "bookmarks: there is a feature of this name already"),
        ("job_queues", "url:str", "job_queues: there is a table of this name already"),
        ("notes", "note:str", "note: a field cannot have the name of the whole"),
        ("news", "url:str", "news: cannot tell what one of them is called"),
        ("notes", "url:string", "url:string: there is no type string"),
    ],
)
def test_what_is_refused_leaves_nothing_behind(checkout: Copy, name: str, fields: str, reason: str) -> None:
    before = checkout.changes()

    done = checkout.run("scripts/feature.py", "add", f"--name={name}", f"--fields={fields}")

    assert done.returncode == 1
    assert done.stderr.startswith(reason)
    assert done.stdout == ""
    assert checkout.changes() == before


def test_a_step_that_fails_takes_all_files_with_it(checkout: Copy) -> None:
    """The last step fails here, when all files and the revision are written."""
    before = checkout.changes()
    script = checkout.root / "scripts/openapi.py"
    text = script.read_text()
    script.write_text(text.replace("sys.exit(main())", "sys.exit(1)"))

    done = checkout.run("scripts/feature.py", "add", "--name=notes", "--fields=label:str")

    script.write_text(text)
    assert done.returncode == 1
    assert done.stderr.startswith("make openapi failed:")
    assert checkout.changes() == before


def test_a_feature_that_git_does_not_have_is_not_removed(checkout: Copy) -> None:
    before = checkout.changes()

    done = checkout.run("scripts/feature.py", "remove", "--name=bookmarks")

    assert done.returncode == 1
    assert "git could not give these back" in done.stderr
    assert checkout.changes() == before
