"""Adds, shows, changes and removes ${words.many}."""

from collections.abc import Mapping
from datetime import date, datetime
from decimal import Decimal
from uuid import UUID

import structlog

from app_api.features.${words.plural}.errors import ${f"{words.model}NotFound, {taken}" if unique else f"{words.model}NotFound"}
from app_auth.principal import Principal
from app_db import Session
from app_db.features.${words.plural}.models import ${words.model}
from app_db.features.${words.plural}.repository import ${words.model}Repository

log = structlog.get_logger(__name__)


async def add_${words.singular}(
    session: Session, principal: Principal, *, ${", ".join(f"{field.name}: {field.python}" for field in fields)}
) -> ${words.model}:
% if unique:
    """Add ${words.a_one} of the principal.

    Raises:
        ${taken}: when they have one with this ${unique.words}.
    """
% else:
    """Add ${words.a_one} of the principal."""
% endif
    ${words.singular} = ${words.model}(owner_id=principal.user_id, ${", ".join(f"{field.name}={field.name}" for field in fields)})
    await ${words.model}Repository(session).add(${words.singular}${f", taken={taken}" if unique else ""})
    log.info("${words.singular}_created", ${words.singular}_id=str(${words.singular}.id))
    return ${words.singular}


async def show_${words.singular}(session: Session, principal: Principal, ${words.singular}_id: UUID) -> ${words.model}:
    """Return ${words.a_one} of the principal.

    Raises:
        ${words.model}NotFound: there is no such ${words.one}, or it is another's.
    """
    ${words.singular} = await ${words.model}Repository(session).get_owned(${words.singular}_id, owner_id=principal.user_id)
    if ${words.singular} is None:
        raise ${words.model}NotFound
    return ${words.singular}


async def change_${words.singular}(
    session: Session, principal: Principal, ${words.singular}_id: UUID, *, changes: Mapping[str, object]
) -> ${words.model}:
    """Change what `changes` names of ${words.a_one} of the principal.

    Raises:
        ${words.model}NotFound: there is no such ${words.one}, or it is another's.
% if unique:
        ${taken}: when they have one with this ${unique.words}.
% endif
    """
    ${words.singular} = await show_${words.singular}(session, principal, ${words.singular}_id)
    await ${words.model}Repository(session).update(${words.singular}, changes${f", taken={taken}" if unique else ""})
    return ${words.singular}


async def remove_${words.singular}(session: Session, principal: Principal, ${words.singular}_id: UUID) -> None:
    """Delete ${words.a_one} of the principal.

    Raises:
        ${words.model}NotFound: there is no such ${words.one}, or it is another's.
    """
    if not await ${words.model}Repository(session).delete_owned(${words.singular}_id, owner_id=principal.user_id):
        raise ${words.model}NotFound
