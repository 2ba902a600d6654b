"""The settings of the API together with those of its features."""

from typing import get_args

from app_api.settings import ELSEWHERE, ApiSettings
from app_auth.keys import RINGS
from app_auth.settings import KeyRing
from app_db.jobs.encryption import VARIABLE
from app_runtime.configuration import PREFIX
from app_runtime.discovery import find
from app_runtime.fragments import fragment_of, names_elsewhere, with_fragments

FEATURES = "app_api.features"

ALL_SETTINGS = with_fragments(ApiSettings, FEATURES)

OF_FEATURES = (*names_elsewhere(ALL_SETTINGS, "app_db.features"),)
"""The settings of features that only the worker reads; their classes are in `app_db`."""

READ_ELSEWHERE = (*ELSEWHERE, *OF_FEATURES)

_OF_FEATURES = {
    f"{found.feature}_{name}": f"{PREFIX}{found.feature.upper()}__{name.upper()}"
    for found in find(FEATURES, "settings")
    for name, field in fragment_of(found).model_fields.items()
    if KeyRing in {field.annotation, *get_args(field.annotation)}
}
VARIABLES_OF_RINGS = {
    **{ring: f"{PREFIX}AUTH__{ring.upper()}" for ring in RINGS},
    "jobs_keys": VARIABLE,
    **_OF_FEATURES,
}
"""The variable of each ring of keys, those of features too: `totp_keys` is `APP_TOTP__KEYS`."""
