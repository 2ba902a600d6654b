"""The settings of the API together with those of its features."""

from app_api.settings import ELSEWHERE, ApiSettings
from app_runtime.fragments import names_of_features, with_fragments

FEATURES = "app_api.features"

ALL_SETTINGS = with_fragments(ApiSettings, FEATURES)

OF_FEATURES = (*names_of_features(ALL_SETTINGS, FEATURES, "app_db.features"),)
"""How names begin that only the worker may read, because it has the settings of a feature."""

READ_ELSEWHERE = (*ELSEWHERE, *OF_FEATURES)
