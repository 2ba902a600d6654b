"""Resources that features open once per process, and the settings that features read."""

from typing import Any

import pytest
from pydantic import BaseModel

from app_runtime.configuration import Misconfigured, load, shown, variables
from app_runtime.discovery import FeatureError
from app_runtime.fragments import names_elsewhere, with_fragments
from app_runtime.resources import found_resources, open_resources
from app_runtime.testing.plugin import MakeFeatures

SETTINGS = """
from pydantic import BaseModel, SecretStr

class VetSettings(BaseModel, frozen=True):
    url: str = "https://vet.example.test/"
    key: SecretStr = SecretStr("none")
"""
RESOURCES = """
from collections.abc import AsyncIterator
from .settings import VetSettings

EVENTS = []

class Vet:
    def __init__(self, url):
        self.url = url

class Groomer: ...

async def resources(settings: VetSettings) -> AsyncIterator[Vet]:
    EVENTS.append("vet opened")
    yield Vet(settings.url)
    EVENTS.append("vet closed")

async def groomers() -> AsyncIterator[Groomer]:
    EVENTS.append("groomer opened")
    yield Groomer()
    EVENTS.append("groomer closed")
"""


class Settings(BaseModel, frozen=True):
    """The settings of an application."""

    port: int = 8000


def pets(make_features: MakeFeatures, **files: str) -> str:
    return make_features({f"pets/{name}.py": text for name, text in {"__init__": "", **files}.items()})


async def test_resources_are_opened_in_order_and_closed_in_the_opposite_one(
    make_features: MakeFeatures,
) -> None:
    package = pets(make_features, settings=SETTINGS, resources=RESOURCES)
    found = found_resources(package)
    settings = load(with_fragments(Settings, package), {"APP_PETS__URL": "https://other.example.test/"})

    async with open_resources(found, settings) as opened:
        vet, groomer = opened.values()
        assert (type(vet).__name__, vet.url) == ("Vet", "https://other.example.test/")
        assert type(groomer).__name__ == "Groomer"

    (resource, _) = found.values()
    events = resource.function.__globals__["EVENTS"]
    assert events == ["vet opened", "groomer opened", "groomer closed", "vet closed"]


async def test_without_settings_of_the_application_a_feature_has_its_defaults(
    make_features: MakeFeatures,
) -> None:
    package = pets(make_features, settings=SETTINGS, resources=RESOURCES)

    async with open_resources(found_resources(package), Settings()) as opened:
        assert next(iter(opened.values())).url == "https://vet.example.test/"


VET = "from collections.abc import AsyncIterator\nclass Vet: ...\nasync def resources({}) -> {}:\n    yield Vet()"

OWN = "from pydantic import BaseModel\nclass Own(BaseModel): ...\n"
MORE = "\nasync def more() -> AsyncIterator[int]:\n    yield 1"


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "add `async def resources"),
        ("async def resources(): return 1", "add `async def resources"),
        (VET.format("", "Vet"), "resources has to say `-> AsyncIterator"),
        (VET.format("", "AsyncIterator[Vet | None]"), "resources has to say `-> AsyncIterator"),
        ("async def resources():\n    yield 1", "resources has to say `-> AsyncIterator"),
        (VET.format("settings: int", "AsyncIterator[Vet]"), "resources takes nothing, or `settings`"),
        (VET.format("settings", "AsyncIterator[Vet]"), "resources takes nothing, or `settings`"),
        (VET.format("a: int, b: int", "AsyncIterator[Vet]"), "resources takes nothing, or `settings`"),
        (OWN + VET.format("settings: Own", "AsyncIterator[Vet]"), "resources takes nothing, or `settings`"),
        (VET.format("", "AsyncIterator[int]") + MORE, "there is a int of .*pets/resources.py"),
        # woltapp/magic-di #5: names that are imported for type checkers alone.
        (VET.format("", "'AsyncIterator[Dog]'"), "resources: name 'Dog' is not defined: import it at run time too"),
    ],
)
def test_what_is_no_resource_is_refused(make_features: MakeFeatures, text: str, complaint: str) -> None:
    package = pets(make_features, resources=text)

    with pytest.raises(FeatureError, match=rf"pets/resources.py: {complaint}"):
        found_resources(package)


def test_settings_of_a_feature_are_read_refused_and_hidden_like_all(make_features: MakeFeatures) -> None:
    model = with_fragments(Settings, pets(make_features, settings=SETTINGS))
    environ = {"APP_PORT": "1", "APP_PETS__URL": "x", "APP_PETS__KEY": "secret"}

    settings = load(model, environ)

    assert [variable.name for variable in variables(model)] == ["APP_PORT", "APP_PETS__URL", "APP_PETS__KEY"]
    lines = list(shown(settings, environ))
    assert lines == ["APP_PORT=1  # variable", "APP_PETS__URL=x  # variable", "APP_PETS__KEY=…  # variable"]
    with pytest.raises(Misconfigured, match=r"APP_PETS__KYE: is no setting; the closest one is APP_PETS__KEY"):
        load(model, {"APP_PETS__KYE": "secret"})


ELSEWHERE_READ = """
from typing import Annotated
from pydantic import BaseModel
from app_runtime.configuration import ReadFrom
class VetSettings(BaseModel, frozen=True):
    names: Annotated[tuple[str, ...], ReadFrom("APP_{}")] = ()
"""


def test_a_setting_of_a_feature_may_have_a_name_in_another_place(make_features: MakeFeatures) -> None:
    package = pets(make_features, settings=ELSEWHERE_READ.format("HOME__PETS"))
    model = with_fragments(Settings, package)
    environ = {"APP_HOME__PETS": '["Rex"]'}

    settings: Any = load(model, environ)

    assert settings.pets.names == ("Rex",)
    assert list(shown(settings, environ)) == ["APP_PORT=8000  # default", 'APP_HOME__PETS=["Rex"]  # variable']
    assert list(names_elsewhere(Settings, package)) == ["APP_HOME__PETS"]
    with pytest.raises(Misconfigured, match=r"APP_HOME__PETS: 0: Input should be a valid string"):
        load(model, {"APP_HOME__PETS": "[1]"})
    with pytest.raises(Misconfigured, match=r"APP_PETS__NAMES: is no setting"):
        load(model, {"APP_PETS__NAMES": "[]"})


def test_a_setting_of_a_feature_takes_no_name_of_another(make_features: MakeFeatures) -> None:
    package = pets(make_features, settings=ELSEWHERE_READ.format("PORT"))

    with pytest.raises(FeatureError, match=r"pets/settings.py: APP_PORT is a setting already"):
        with_fragments(Settings, package)


def test_a_setting_of_a_feature_that_has_to_be_set_is_missed(make_features: MakeFeatures) -> None:
    required = "from pydantic import BaseModel\nclass VetSettings(BaseModel):\n    key: str"

    with pytest.raises(Misconfigured, match=r"APP_PETS__KEY: has to be set"):
        load(with_fragments(Settings, pets(make_features, settings=required)), {})


def test_a_feature_may_share_its_settings_with_another_package(make_features: MakeFeatures) -> None:
    package = pets(make_features, settings=SETTINGS)
    shared = pets(make_features, settings=f"from {package}.pets.settings import VetSettings")

    assert "APP_PETS__KEY" in [variable.name for variable in variables(with_fragments(Settings, shared))]


@pytest.mark.parametrize("text", ["", "VetSettings = 1", SETTINGS + SETTINGS.replace("Vet", "Dog")])
def test_a_feature_has_one_class_of_settings(make_features: MakeFeatures, text: str) -> None:
    package = pets(make_features, settings=text)

    with pytest.raises(FeatureError, match=r"pets/settings.py: it needs one class of settings"):
        with_fragments(Settings, package)


def test_a_setting_of_a_feature_is_not_the_file_of_another_one(make_features: MakeFeatures) -> None:
    """domainaware/parsedmarc PR #772: `…_FILE` names the file with a value, and four options were called like that."""
    both = "from pydantic import BaseModel\nclass VetSettings(BaseModel):\n    key: str = ''\n    key_file: str = ''"

    with pytest.raises(FeatureError, match=r"pets/settings.py: APP_PETS__KEY_FILE names the file that has the value"):
        with_fragments(Settings, pets(make_features, settings=both))


def test_a_feature_takes_no_settings_from_the_kernel(make_features: MakeFeatures) -> None:
    package = make_features({"port/__init__.py": "", "port/settings.py": SETTINGS})

    with pytest.raises(FeatureError, match=r"port/settings.py: APP_PORT__… is taken: rename the folder"):
        with_fragments(Settings, package)


def test_an_application_lets_pass_exactly_what_another_one_reads(make_features: MakeFeatures) -> None:
    package = make_features({"pets/__init__.py": "", "pets/settings.py": SETTINGS, "clubs/__init__.py": ""})

    assert list(names_elsewhere(Settings, package)) == ["APP_PETS__URL", "APP_PETS__KEY"]
    assert list(names_elsewhere(with_fragments(Settings, package), package)) == []


def test_without_settings_of_features_an_application_has_its_own(make_features: MakeFeatures) -> None:
    assert with_fragments(Settings, make_features({"clubs/__init__.py": ""})) is Settings
