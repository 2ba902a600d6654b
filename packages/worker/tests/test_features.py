"""The handlers and crons that the worker finds in the folders of features."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from app_runtime.discovery import FeatureError
from app_runtime.testing.plugin import MakeFeatures
from app_worker.crons import found_crons
from app_worker.handlers import found_handlers
from app_worker.mail import template_folders

pytestmark = pytest.mark.integration

HANDLERS = """
from app_db.features.retention.payloads import PruneJobs
from app_worker.registry import handles

@handles(PruneJobs)
async def prune(job, payload): ...

again = prune
"""
CRONS = """
from app_db.features.retention.payloads import PruneJobs
from app_worker.schedule import Cron

nightly = Cron("test.nightly", "0 3 * * *", PruneJobs)
"""


SETTINGS = """
from pydantic import BaseModel

class PetSettings(BaseModel, frozen=True):
    age: int = 1
"""


def two_of(file: str, text: str) -> dict[str, str]:
    """Return the files of two features, each with the same."""
    return {
        f"{name}/{path}": content for name in ("dogs", "pets") for path, content in (("__init__.py", ""), (file, text))
    }


def test_a_handler_is_found_once(make_features: MakeFeatures) -> None:
    (handler,) = found_handlers(make_features({"pets/__init__.py": "", "pets/handlers.py": HANDLERS}))

    assert handler.payload_class.kind == "jobs.prune"


def test_two_handlers_of_one_kind_in_features_are_refused(make_features: MakeFeatures) -> None:
    package = make_features(two_of("handlers.py", HANDLERS))

    with pytest.raises(
        FeatureError, match=r"pets/handlers.py: 'jobs.prune' has a handler already in .*dogs/handlers.py"
    ):
        list(found_handlers(package))


@pytest.mark.parametrize("importing", ["cats", "pets"])
def test_what_a_feature_imports_from_another_one_is_found_once(make_features: MakeFeatures, importing: str) -> None:
    """a5c-ai/babysitter #2086: an import of a name that another module registers was refused as a duplicate."""
    package = make_features(
        {
            "dogs/__init__.py": "",
            "dogs/handlers.py": HANDLERS,
            "dogs/crons.py": CRONS,
            f"{importing}/__init__.py": "",
            f"{importing}/handlers.py": "from ..dogs.handlers import prune",
            f"{importing}/crons.py": "from ..dogs.crons import nightly",
        }
    )

    assert [handler.payload_class.kind for handler in found_handlers(package)] == ["jobs.prune"]
    assert [cron.name for cron in found_crons(package)] == ["test.nightly"]


def test_crons_that_have_no_name_are_refused(make_features: MakeFeatures) -> None:
    """oban-bg/oban #978: a worker that the crontab names but that does not exist never runs, and no error says so."""
    in_a_list = CRONS.replace("nightly = Cron", "crons = [Cron").rstrip() + "]"
    package = make_features({"pets/__init__.py": "", "pets/crons.py": in_a_list})

    with pytest.raises(FeatureError, match=r"pets/crons.py: give each cron a name of its own"):
        list(found_crons(package))


def test_two_crons_of_one_name_are_refused(make_features: MakeFeatures) -> None:
    package = make_features(two_of("crons.py", CRONS))

    with pytest.raises(FeatureError, match=r"pets/crons.py: there is a cron 'test.nightly' in .*dogs/crons.py"):
        list(found_crons(package))


def test_two_templates_of_one_name_are_refused(make_features: MakeFeatures) -> None:
    package = make_features(two_of("templates/hello.txt", "Hello"))

    with pytest.raises(FeatureError, match=r"pets/templates/hello.txt: there is one in .*dogs/templates"):
        template_folders(package)


@pytest.mark.measured
def test_a_process_says_in_one_line_which_feature_does_not_fit(make_features: MakeFeatures, tmp_path: Path) -> None:
    broken = tmp_path / make_features({"pets/__init__.py": "", "pets/handlers.py": "import nothing_like_it"})
    start = f"""
import runpy, app_worker.features
app_worker.features.__path__ = [{str(broken)!r}]
runpy.run_module("app_worker", run_name="__main__")
"""

    process = subprocess.run([sys.executable, "-c", start], capture_output=True, text=True, check=False)

    assert process.returncode == 1
    assert process.stderr.startswith(f"error: {broken}/pets/")
    assert process.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("package", "command", "is_read"),
    [
        ("app_worker.features", "run", True),
        ("app_worker.features", "drain", True),
        ("app_worker.features", "list", False),
        ("app_db.features", "run", False),
        ("app_db.features", "list", False),
    ],
)
def test_commands_that_run_jobs_read_the_settings_of_features_and_all_others_pass(
    make_features: MakeFeatures, tmp_path: Path, package: str, command: str, is_read: bool
) -> None:
    pets = tmp_path / make_features({"pets/__init__.py": "", "pets/settings.py": SETTINGS})
    start = f"""
import runpy, sys, {package}
{package}.__path__.insert(0, {str(pets)!r})
sys.argv[1:] = [{command!r}]
runpy.run_module("app_worker", run_name="__main__")
"""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("APP_")}

    process = subprocess.run(
        [sys.executable, "-c", start],
        env={**environment, "APP_PETS__AGE": "old"},
        capture_output=True,
        text=True,
        check=False,
    )

    assert process.returncode == 1
    assert "APP_DATABASE__URL: has to be set" in process.stderr
    assert ("APP_PETS__AGE: " in process.stderr) is is_read
