"""What the worker does about passkeys: used challenges go, and the passkeys of a user are part of an export."""

from sqlalchemy import text

from app_db.features.passkeys.models import Passkey
from app_db.features.passkeys.payloads import PrunePasskeyChallenges
from app_db.features.passkeys.repository import UsedChallengeRepository
from app_db.testing.plugin import MakeUser
from app_db.types import new_id, utcnow
from app_worker.features.passkeys.export import export
from app_worker.handlers import HANDLERS
from packages.worker.tests.conftest import Jobs, MakeRunner


async def test_a_used_challenge_is_remembered_until_it_has_expired(jobs: Jobs, make_runner: MakeRunner) -> None:
    ids = [new_id(), new_id()]
    async with jobs.database.unit_of_work() as session:
        for challenge_id in ids:
            assert await UsedChallengeRepository(session).use(challenge_id)
        await session.execute(text("UPDATE passkey_challenges SET expires_at = now() WHERE id = :id"), {"id": ids[0]})

    delivery = await jobs.deliver(PrunePasskeyChallenges())
    await make_runner(*HANDLERS).run(delivery)

    assert (await jobs.get(delivery)).result == {"pruned": 1}
    async with jobs.database.unit_of_work() as session:
        assert [await UsedChallengeRepository(session).use(each) for each in ids] == [True, False]


async def test_an_export_has_the_passkeys_of_its_user_without_their_keys(jobs: Jobs, make_user: MakeUser) -> None:
    ada, ben = await make_user(), await make_user()
    what = {
        "public_key": b"k", "sign_count": 0, "transports": ["internal"], "backup_eligible": True, "backed_up": True,
    }  # fmt: skip
    used = Passkey(user_id=ada.id, credential_id=b"1", name="Laptop", last_used_at=utcnow(), **what)
    unused = Passkey(user_id=ada.id, credential_id=b"2", name="Phone", **what)
    async with jobs.database.unit_of_work() as session:
        session.add_all([used, unused, Passkey(user_id=ben.id, credential_id=b"3", name="Ben's", **what)])
    async with jobs.database.unit_of_work(read_only=True) as session:
        rows = await export(session, ada.id, after=None, limit=10)

    assert [(row["name"], row["last_used_at"] is None) for row in rows] == [("Laptop", False), ("Phone", True)]
    assert {*rows[0]} == {"id", "name", "created_at", "last_used_at"}
