"""docs/reference/configuration.md says what the settings classes say, and tables.md what the models say."""

import pytest
import reference
import tables
from pydantic import BaseModel, create_model

from app_worker.settings import WorkerSettings


def test_the_page_is_as_the_settings_write_it() -> None:
    assert reference.PAGE.read_text() == reference.page(), "run `make reference`"


def test_the_page_of_tables_is_as_the_models_write_it() -> None:
    assert tables.PAGE.read_text() == tables.page(), "run `make reference`"


@pytest.mark.parametrize("application", reference.APPLICATIONS)
def test_each_setting_says_what_it_means(application: str) -> None:
    silent = [row.name for row in reference.rows(application, reference.APPLICATIONS[application]) if not row.meaning]

    assert silent == []


def test_settings_of_a_feature_are_written_beside_those_of_its_application() -> None:
    class PetSettings(BaseModel, frozen=True):
        vet_url: str = "http://localhost:9999"
        """Where the vet answers."""

    joined = create_model("Joined", __base__=WorkerSettings, pets=(PetSettings, PetSettings()))

    meanings = {row.name: row.meaning for row in reference.rows("worker", joined)}

    assert meanings["APP_PETS__VET_URL"] == "Where the vet answers."
    assert "" not in meanings.values()
