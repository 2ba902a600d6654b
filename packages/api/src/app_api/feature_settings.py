"""The settings of the API together with those of its features."""

from app_api.settings import ELSEWHERE, ApiSettings
from app_runtime.fragments import names_elsewhere, with_fragments

FEATURES = "app_api.features"

ALL_SETTINGS = with_fragments(ApiSettings, FEATURES)

OF_FEATURES = (*names_elsewhere(ALL_SETTINGS, "app_db.features"),)
"""The settings of features that only the worker reads; their classes are in `app_db`."""

READ_ELSEWHERE = (*ELSEWHERE, *OF_FEATURES)
