"""The tables, payloads and queries of features: one folder each, found by `app_runtime.discovery`."""

import app_db.models  # noqa: F401  # whoever imports the model of one feature gets the metadata of all
