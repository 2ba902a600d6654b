"""${words.many.capitalize()} for tests."""

from collections.abc import Awaitable, Callable
from decimal import Decimal
from typing import Any

import pytest

from app_db import Database
from app_db.features.${words.plural}.models import ${words.model}
from app_db.models import User
from app_db.types import new_id, utcnow

type Make${words.model} = Callable[..., Awaitable[${words.model}]]


@pytest.fixture
def make_${words.singular}(database: Database) -> Make${words.model}:
    """Return a factory of committed ${words.many}; every column but the owner has a default."""

    async def make(*, owner: User, **columns: Any) -> ${words.model}:  # Any: columns of ${words.model}
        ${words.singular}_id = new_id()
        defaults = {
            "id": ${words.singular}_id,
            "owner_id": owner.id,
% for field in fields:
% if field.is_unique or not field.is_optional:
            "${field.name}": ${field.made(f"{words.singular}_id")},
% endif
% endfor
        }
        ${words.singular} = ${words.model}(**{**defaults, **columns})
        async with database.sessions.begin() as session:
            session.add(${words.singular})
        return ${words.singular}

    return make
