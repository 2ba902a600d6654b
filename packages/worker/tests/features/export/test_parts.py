"""The parts that features add to an export."""

import pytest

from app_runtime.discovery import FeatureError
from app_runtime.testing.plugin import MakeFeatures
from app_worker.features.export.parts import found_parts

EXPORT = """
async def export(session, user_id, *, after, limit): ...
"""


def test_a_feature_has_one_function_for_exports(make_features: MakeFeatures) -> None:
    files = {
        f"{name}/{file}": text
        for name in ("dogs", "pets")
        for file, text in (("__init__.py", ""), ("export.py", EXPORT))
    }

    assert list(found_parts(make_features(files))) == ["dogs", "pets"]


@pytest.mark.parametrize(
    ("folder", "text", "cure"),
    [
        ("pets", "def export(session, user_id, *, after, limit): ...", "add `async def export"),
        ("pets", "", "add `async def export"),
        ("download", EXPORT, "rename the folder"),
    ],
)
def test_what_is_no_part_of_an_export_is_refused(
    make_features: MakeFeatures, folder: str, text: str, cure: str
) -> None:
    package = make_features({f"{folder}/__init__.py": "", f"{folder}/export.py": text})

    with pytest.raises(FeatureError, match=rf"{folder}/export.py: .*{cure}"):
        found_parts(package)
