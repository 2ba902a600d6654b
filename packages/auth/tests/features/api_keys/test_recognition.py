"""A machine is recognised by one query, and its use is noted beside its requests."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import datetime, timedelta

import pytest
import pytest_asyncio
from sqlalchemy import select, text, update

from app_auth import accounts
from app_auth.auth import Auth, open_auth
from app_auth.client import NOBODY, Client
from app_auth.errors import InvalidToken, Throttled
from app_auth.features.api_keys.errors import KeyExpired
from app_auth.features.api_keys.recognition import AT_ONCE, REMEMBERED, StampedKeys
from app_auth.features.api_keys.secrets import new_key_text
from app_auth.features.api_keys.service import NewKey
from app_auth.limits import ThrottleSettings
from app_auth.machines import Machine
from app_auth.principal import Principal
from app_auth.testing import Account, new_key
from app_auth.throttle import Throttle
from app_db import Database
from app_db.features.api_keys.models import ApiKey
from app_db.models import Role, User
from app_db.testing.queries import assert_queries
from app_db.types import new_id, utcnow
from packages.auth.tests.features.api_keys.conftest import MakeKey

type Recognise = Callable[[str], Awaitable[Machine]]


@pytest_asyncio.fixture(loop_scope="session")
async def keys() -> AsyncIterator[StampedKeys]:
    """What recognises keys in a process that has just started."""
    keys = StampedKeys()
    yield keys
    await keys.close()


@pytest.fixture
def recognise(keys: StampedKeys, auth: Auth, database: Database) -> Recognise:
    """Return a function that finds the machine of a key."""

    async def recognise(token: str) -> Machine:
        return await keys.recognise(auth, database, token=token, client=NOBODY)

    return recognise


async def last_use_of(database: Database, new: NewKey) -> datetime | None:
    async with database.unit_of_work(read_only=True) as session:
        return (await session.scalars(select(ApiKey.last_used_at).where(ApiKey.id == new.row.id))).one()


async def test_a_machine_acts_for_its_user_and_is_no_operator(
    recognise: Recognise, make_key: MakeKey, ada: Account, database: Database
) -> None:
    new = await make_key(scopes=("jobs:read", "jobs:write"))
    async with database.unit_of_work() as session:
        await session.execute(update(User).values(role=Role.OPERATOR))

    machine = await recognise(new.text)

    assert (machine.user_id, machine.email, machine.role) == (ada.id, ada.email, Role.USER)
    assert (machine.key_id, machine.key_name, machine.scopes) == (
        new.row.id,
        "ci",
        frozenset({"jobs:read", "jobs:write"}),
    )
    assert machine.expires_at == new.row.expires_at


async def test_a_key_costs_one_query(
    keys: StampedKeys, recognise: Recognise, make_key: MakeKey, database: Database
) -> None:
    new = await make_key()
    await recognise(new.text)
    await keys.close()

    with assert_queries(database, max=1):
        await recognise(new.text)


async def test_what_is_no_key_costs_no_query(recognise: Recognise, database: Database) -> None:
    with assert_queries(database, max=0), pytest.raises(InvalidToken):
        await recognise("gw_not-a-key")


async def test_an_unknown_key_and_a_wrong_secret_are_the_same(recognise: Recognise, make_key: MakeKey) -> None:
    new = await make_key()

    for wrong in (new_key_text(new_id()), new_key_text(new.row.id)):
        with pytest.raises(InvalidToken) as refused:
            await recognise(str(wrong))
        assert refused.type is InvalidToken


async def test_a_key_that_has_expired_is_refused(recognise: Recognise, make_key: MakeKey, database: Database) -> None:
    new = await make_key()
    async with database.unit_of_work() as session:
        await session.execute(update(ApiKey).values(expires_at=utcnow() - timedelta(seconds=1)))

    with pytest.raises(KeyExpired):
        await recognise(new.text)


async def test_the_key_of_a_disabled_user_is_dead(recognise: Recognise, make_key: MakeKey, database: Database) -> None:
    new = await make_key()
    async with database.unit_of_work() as session:
        await session.execute(update(User).values(disabled_at=utcnow()))

    with pytest.raises(InvalidToken):
        await recognise(new.text)


async def test_the_key_of_a_deleted_account_is_gone(
    recognise: Recognise, make_key: MakeKey, auth: Auth, database: Database, principal: Principal
) -> None:
    new = await make_key()
    async with database.unit_of_work() as session:
        await accounts.delete_account(auth, session, principal, client=NOBODY)

    with pytest.raises(InvalidToken):
        await recognise(new.text)


async def test_a_digest_that_somebody_has_planted_opens_nothing(
    recognise: Recognise, make_key: MakeKey, auth: Auth, database: Database
) -> None:
    await make_key()
    planted = new_key_text(new_id())

    async with database.unit_of_work() as session:
        digest = hashlib.sha256(planted.secret.encode()).digest()
        await session.execute(update(ApiKey).values(id=planted.id, digest=digest))

    with pytest.raises(InvalidToken):
        await recognise(str(planted))


async def test_wrong_keys_are_throttled(keys: StampedKeys, make_key: MakeKey, auth: Auth, database: Database) -> None:
    new, throttle = await make_key(), Throttle(ThrottleSettings(key_ip="2/h"), secret=b"of this test")
    client, wrong = Client("192.0.2.7"), str(new_key_text(new_id()))
    with open_auth(auth.settings, throttle=throttle) as limited:
        for _ in range(2):
            with pytest.raises(InvalidToken):
                await keys.recognise(limited, database, token=wrong, client=client)

        with pytest.raises(Throttled):
            await keys.recognise(limited, database, token=wrong, client=client)
        await keys.recognise(limited, database, token=new.text, client=client)


async def test_requests_with_a_key_are_throttled(
    keys: StampedKeys, make_key: MakeKey, auth: Auth, database: Database
) -> None:
    new, other = await make_key("one"), await make_key("two")
    throttle = Throttle(ThrottleSettings(key_requests="2/h"), secret=b"of this test")
    with open_auth(auth.settings, throttle=throttle) as limited:
        for _ in range(2):
            await keys.recognise(limited, database, token=new.text, client=NOBODY)

        with pytest.raises(Throttled):
            await keys.recognise(limited, database, token=new.text, client=NOBODY)
        await keys.recognise(limited, database, token=other.text, client=NOBODY)


async def test_the_use_of_a_key_is_noted_once_in_ten_minutes(
    keys: StampedKeys, recognise: Recognise, make_key: MakeKey, auth: Auth, database: Database
) -> None:
    new = await make_key()
    await recognise(new.text)
    await keys.close()
    first = await last_use_of(database, new)
    assert first is not None

    await recognise(new.text)
    await keys.close()
    assert await last_use_of(database, new) == first

    async with database.unit_of_work() as session:
        await session.execute(update(ApiKey).values(last_used_at=first - timedelta(minutes=11)))
    another_process = StampedKeys()
    await another_process.recognise(auth, database, token=new.text, client=NOBODY)
    await another_process.close()
    later = await last_use_of(database, new)
    assert later is not None
    assert later >= first


async def test_a_key_outlives_the_rotation_of_the_peppers_if_it_is_used(
    make_key: MakeKey, auth: Auth, database: Database
) -> None:
    new, old = await make_key(), auth.settings.peppers[0]
    both = (old.model_copy(update={"state": "verify"}), new_key("next"))
    rotated = auth.settings.model_copy(update={"peppers": both})
    with open_auth(rotated) as during:
        keys = StampedKeys()
        await keys.recognise(during, database, token=new.text, client=NOBODY)
        await keys.close()

    with open_auth(auth.settings.model_copy(update={"peppers": both[1:]})) as after:
        keys = StampedKeys()
        await keys.recognise(after, database, token=new.text, client=NOBODY)
        await keys.close()


async def test_a_stamp_that_cannot_be_written_is_not_tried_by_each_request(
    keys: StampedKeys, recognise: Recognise, make_key: MakeKey, database: Database
) -> None:
    new = await make_key()
    async with database.sessions() as session:
        await session.execute(text("LOCK TABLE api_keys IN SHARE MODE"))
        for _ in range(5):
            await recognise(new.text)  # none of them waits
        assert len(keys._tasks) == 1
        await keys.close()
        await session.rollback()

    with assert_queries(database, max=1):
        await recognise(new.text)
        await keys.close()
    assert await last_use_of(database, new) is None


async def test_a_process_writes_few_stamps_at_once_and_remembers_few_keys(
    keys: StampedKeys, recognise: Recognise, make_key: MakeKey, database: Database
) -> None:
    many = [await make_key(f"key {number}") for number in range(AT_ONCE + 1)]
    keys._tried.update({new_id(): 0.0 for _ in range(REMEMBERED)})
    async with database.sessions() as session:
        await session.execute(text("LOCK TABLE api_keys IN SHARE MODE"))
        for new in many:
            await recognise(new.text)
        assert len(keys._tasks) == AT_ONCE
        await session.rollback()
    await asyncio.sleep(0)
    await keys.close()

    assert len(keys._tried) == REMEMBERED
    assert [await last_use_of(database, new) is not None for new in many] == [True, True, False]
