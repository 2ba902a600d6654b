"""Finding and keeping ${words.many}."""

from datetime import timedelta
from decimal import Decimal

import pytest

from app_db import Session
from app_db.errors import Conflict
from app_db.features.${words.plural}.factories import Make${words.model}
from app_db.features.${words.plural}.models import ${words.model}
from app_db.features.${words.plural}.repository import ${words.model}Repository
from app_db.testing.plugin import MakeUser
from app_db.types import new_id, utcnow


% if unique:
async def test_an_owner_has_each_${unique.name}_once(
    session: Session, make_user: MakeUser, make_${words.singular}: Make${words.model}
) -> None:
    ada = await make_user()
    first, second = await make_${words.singular}(owner=ada), await make_${words.singular}(owner=ada)
    ${words.singular} = await session.get_one(${words.model}, second.id)

    with pytest.raises(Conflict):
        await ${words.model}Repository(session).update(${words.singular}, {"${unique.name}": first.${unique.name}}, taken=Conflict)


async def test_two_owners_may_have_the_same_${unique.name}(make_user: MakeUser, make_${words.singular}: Make${words.model}) -> None:
    first = await make_${words.singular}(owner=await make_user())

    second = await make_${words.singular}(owner=await make_user(), ${unique.name}=first.${unique.name})

    assert second.${unique.name} == first.${unique.name}


% endif
async def test_${words.a_one.replace(" ", "_")}_that_is_changed_knows_when(
    session: Session, make_user: MakeUser, make_${words.singular}: Make${words.model}
) -> None:
    made = await make_${words.singular}(owner=await make_user())
    ${words.singular} = await session.get_one(${words.model}, made.id)

    await ${words.model}Repository(session).update(${words.singular}, {"${fields[0].name}": ${fields[0].kind.other}}${", taken=Conflict" if unique else ""})

    assert ${words.singular}.updated_at > made.updated_at


async def test_only_its_owner_finds_or_deletes_${words.a_one.replace(" ", "_")}(
    session: Session, make_user: MakeUser, make_${words.singular}: Make${words.model}
) -> None:
    ada, grace = await make_user(), await make_user()
    made = await make_${words.singular}(owner=ada)
    ${words.plural} = ${words.model}Repository(session)

    assert await ${words.plural}.get_owned(made.id, owner_id=grace.id) is None
    assert not await ${words.plural}.delete_owned(made.id, owner_id=grace.id)
    assert await ${words.plural}.delete_owned(made.id, owner_id=ada.id)


async def test_a_page_has_the_newest_of_ones_own_${words.plural}(
    session: Session, make_user: MakeUser, make_${words.singular}: Make${words.model}
) -> None:
    ada, grace = await make_user(), await make_user()
    made = [await make_${words.singular}(owner=ada) for _ in range(3)]
    await make_${words.singular}(owner=grace)

    page = await ${words.model}Repository(session).owned_by(ada.id, after=None, limit=2)

    assert [each.id for each in page.items] == [made[2].id, made[1].id]
