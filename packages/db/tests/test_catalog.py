"""Payload classes, models and fixtures of features are found by their folders."""

import pytest

from app_db.jobs.catalog import payload_classes
from app_db.testing.plugin import factory_modules
from app_runtime.discovery import FeatureError
from app_runtime.testing.plugin import MakeFeatures

FEED = """
from app_db.jobs.payload import JobPayload

class OfPets(JobPayload):
    pass

class Feed(OfPets):
    kind = "test.feed"
"""


def test_payload_classes_are_found_where_they_are_defined(make_features: MakeFeatures) -> None:
    package = make_features({"pets/__init__.py": "", "pets/payloads.py": FEED, "clubs/__init__.py": ""})
    again = make_features({"clubs/__init__.py": "", "clubs/payloads.py": f"from {package}.pets.payloads import Feed"})

    assert [payload_class.kind for payload_class in payload_classes(package)] == ["test.feed"]
    assert list(payload_classes(again)) == []


def test_two_payload_classes_of_one_kind_are_refused(make_features: MakeFeatures) -> None:
    files = {
        f"{name}/{file}": text
        for name in ("dogs", "pets")
        for file, text in (("__init__.py", ""), ("payloads.py", FEED))
    }
    package = make_features(files)

    with pytest.raises(
        FeatureError, match=rf"Feed in .*{package}/pets/payloads.py has the kind 'test.feed' of Feed in .*dogs"
    ):
        list(payload_classes(package))


def test_fixtures_of_features_are_found_and_not_imported(make_features: MakeFeatures) -> None:
    package = make_features({"clubs/__init__.py": "", "pets/__init__.py": "", "pets/factories.py": "1 / 0"})

    assert factory_modules(package) == [f"{package}.pets.factories"]
