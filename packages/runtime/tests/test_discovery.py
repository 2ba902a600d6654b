"""Features are found by their folders; for one that does not fit, the error names the folder and the cure."""

from pathlib import Path

import pytest

from app_runtime.discovery import FeatureError, feature_folders, find
from app_runtime.testing.plugin import MakeFeatures


def test_modules_are_found_in_the_order_of_their_folders(make_features: MakeFeatures) -> None:
    package = make_features(
        {
            "pets/__init__.py": "",
            "pets/router.py": "",
            "pets/admin_router.py": "",
            "bookmarks/__init__.py": "",
            "bookmarks/router.py": "",
            "bookmarks/schemas.py": "raise AssertionError('nobody asked for it')",
            "clubs/__init__.py": "",
        }
    )

    found = [(one.feature, Path(one.path).name, one.module.__name__) for one in find(package, "*router")]

    assert found == [
        ("bookmarks", "router.py", f"{package}.bookmarks.router"),
        ("pets", "router.py", f"{package}.pets.router"),
        ("pets", "admin_router.py", f"{package}.pets.admin_router"),
    ]


def test_what_is_left_of_a_removed_feature_is_none(make_features: MakeFeatures) -> None:
    """Git leaves folders of compiled files behind; `__pycache__` and `.idea` are no features."""
    package = make_features(
        {"pets/__pycache__/models.pyc": "", "__pycache__/x.pyc": "", ".idea/x": "", "_old/x.py": ""}
    )

    assert feature_folders(package) == []


@pytest.mark.parametrize(
    ("name", "cure"), [("Pets/__init__.py", "rename the folder"), ("pets/models.py", "add an `__init__.py`")]
)
def test_a_folder_that_cannot_be_imported_is_refused(make_features: MakeFeatures, name: str, cure: str) -> None:
    package = make_features({name: ""})

    with pytest.raises(FeatureError, match=rf"{package}/{name.partition('/')[0]}: {cure}"):
        feature_folders(package)


@pytest.mark.parametrize(
    ("text", "cause"),
    [("import nothing_like_it", "ModuleNotFoundError: No module named"), ("def", "SyntaxError"), ("1 / 0", "division")],
)
def test_a_module_that_cannot_be_imported_is_named(make_features: MakeFeatures, text: str, cause: str) -> None:
    package = make_features({"pets/__init__.py": "", "pets/models.py": text})

    with pytest.raises(FeatureError, match=rf"{package}/pets/models.py: cannot be imported: .*{cause}"):
        list(find(package, "models"))


def test_a_fault_that_is_named_already_keeps_its_name(make_features: MakeFeatures) -> None:
    text = "from app_runtime.discovery import FeatureError\nraise FeatureError('handlers.py: mend it')"
    package = make_features({"pets/__init__.py": "", "pets/export.py": text})

    with pytest.raises(FeatureError, match=r"^handlers.py: mend it$"):
        list(find(package, "export"))


@pytest.mark.parametrize("name", [".#router.py", "._router.py"])
def test_what_editors_and_file_systems_leave_beside_a_file_is_none(make_features: MakeFeatures, name: str) -> None:
    """pylint-dev/pylint PR #5554: `.#router.py` is a link of Emacs to nowhere while `router.py` is edited."""
    package = make_features({"pets/__init__.py": "", "pets/router.py": "", f"pets/{name}": "\0"})

    assert [Path(one.path).name for one in find(package, "*router")] == ["router.py"]


def test_a_folder_with_the_name_of_a_file_is_refused(make_features: MakeFeatures) -> None:
    """mishrasanjeev/agentic-org PR #425: tasks were looked for in `tasks.py`, and not in the modules of `tasks/`."""
    package = make_features({"pets/__init__.py": "", "pets/models/__init__.py": "", "pets/models/pet.py": ""})

    with pytest.raises(FeatureError, match=rf"{package}/pets/models: make it one file, `models.py`"):
        list(find(package, "models"))


def test_what_is_left_of_such_a_folder_is_none(make_features: MakeFeatures) -> None:
    package = make_features({"pets/__init__.py": "", "pets/models.py": "", "pets/models/__pycache__/pet.pyc": ""})

    assert [Path(one.path).name for one in find(package, "models")] == ["models.py"]
