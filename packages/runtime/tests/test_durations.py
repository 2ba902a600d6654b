"""Settings that are a time."""

from datetime import timedelta

import pytest
from pydantic import BaseModel, ValidationError

from app_runtime.durations import Duration


class Settings(BaseModel):
    patience: Duration


@pytest.mark.parametrize("text", ["2.5", "PT2.5S", 2.5])
def test_a_duration_is_seconds_or_iso_8601(text: object) -> None:
    settings = Settings.model_validate({"patience": text})

    assert settings.patience == timedelta(seconds=2.5)


@pytest.mark.parametrize("text", ["soon", "nan", "inf"])
def test_a_duration_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ValidationError):
        Settings.model_validate({"patience": text})
