"""The tables, payloads and queries of features: one folder each, found by `app_runtime.discovery`."""

import app_db.models  # noqa: F401  # so that the models of one feature come with the metadata of all
