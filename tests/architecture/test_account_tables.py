"""An account can always be deleted, whatever tables features add."""

import pytest
from sqlalchemy import ForeignKey

import app_db.models  # noqa: F401  # with those of features
from app_db.base import Base

OF_ACCOUNTS = [
    key
    for table in Base.metadata.sorted_tables
    for key in table.foreign_keys
    if key.references(Base.metadata.tables["users"])
]


def test_there_are_such_keys() -> None:
    assert len(OF_ACCOUNTS) > 5


@pytest.mark.parametrize("key", OF_ACCOUNTS, ids=str)
def test_no_table_keeps_an_account_from_being_deleted(key: ForeignKey) -> None:
    """A pull request of liwords, 1961: one row of a table without it ended each nightly clean-up for six months."""
    assert key.ondelete in {"CASCADE", "SET NULL"}, f"{key.parent}: say ForeignKey(…, ondelete='CASCADE')"
