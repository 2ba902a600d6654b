"""The settings of the API together with those of its features."""

from app_api.settings import ELSEWHERE, ApiSettings
from app_runtime.fragments import names_elsewhere, with_fragments

FEATURES = "app_api.features"

ALL_SETTINGS = with_fragments(ApiSettings, FEATURES)

OF_FEATURES = (*names_elsewhere(ALL_SETTINGS, "app_db.features"),)
"""What only the worker reads of features, where their class of settings is in `app_db`."""

READ_ELSEWHERE = (*ELSEWHERE, *OF_FEATURES)
