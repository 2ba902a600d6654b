"""Secrets at rest."""

from datetime import UTC, datetime
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import select, update

from app_auth.features.totp import codes
from app_auth.features.totp.errors import TotpUnavailable
from app_auth.features.totp.vault import Vault
from app_auth.keys import activated, added
from app_auth.testing import new_key
from app_db import Database
from app_db.features.totp.models import TotpSecret
from app_db.types import new_id, utcnow

from .conftest import Answer, AskedFor, Guard, Guarded

KEY = new_key("old")


def sealed(vault: Vault, secret: bytes, *, secret_id: UUID, user_id: UUID) -> TotpSecret:
    text = vault.seal(secret, secret_id=secret_id, user_id=user_id)
    return TotpSecret(id=secret_id, user_id=user_id, sealed=text, key_id=vault.key_id)


@given(st.binary(min_size=1, max_size=64), st.uuids(), st.uuids())
def test_a_secret_is_opened_as_it_was_sealed(secret: bytes, secret_id: UUID, user_id: UUID) -> None:
    vault = Vault((KEY,))

    assert vault.open(sealed(vault, secret, secret_id=secret_id, user_id=user_id)) == secret


def test_no_two_seals_are_alike() -> None:
    vault, ids = Vault((KEY,)), {"secret_id": new_id(), "user_id": new_id()}

    assert vault.seal(b"secret", **ids) != vault.seal(b"secret", **ids)


@pytest.mark.parametrize("name", ["id", "user_id"])
def test_a_secret_that_was_copied_to_another_account_is_worthless(name: str) -> None:
    vault = Vault((KEY,))
    row = sealed(vault, b"secret", secret_id=new_id(), user_id=new_id())
    setattr(row, name, new_id())

    with pytest.raises(TotpUnavailable):
        vault.open(row)


@given(st.integers(0, 33), st.integers(1, 255))
def test_a_changed_secret_is_not_opened(place: int, bits: int) -> None:
    vault = Vault((KEY,))
    row = sealed(vault, b"secret", secret_id=new_id(), user_id=new_id())
    changed = bytearray(row.sealed)
    changed[place % len(changed)] ^= bits
    row.sealed = bytes(changed)

    with pytest.raises(TotpUnavailable):
        vault.open(row)


def test_a_digest_is_of_one_account_and_one_key() -> None:
    ada, eve = new_id(), new_id()
    digests = {Vault((key,)).digest("code", user_id=user) for key in (KEY, new_key("new")) for user in (ada, eve)}

    assert len(digests) == 4


async def test_a_code_moves_its_secret_to_the_newest_key(
    ada: Guarded, asked_for: AskedFor, answer: Answer, vault: Vault, database: Database
) -> None:
    old, new = new_key("old"), new_key("new")
    before, after = Vault((old,)), Vault(activated(added((old,), new), "new"))
    async with database.unit_of_work() as session:
        row = (await session.scalars(select(TotpSecret))).one()
        text = before.seal(ada.secret, secret_id=row.id, user_id=row.user_id)
        await session.execute(update(TotpSecret).values(sealed=text, key_id="old"))

    await answer((await asked_for(ada.account)).challenge, ada.code(), vault=after)

    async with database.unit_of_work() as session:
        row = (await session.scalars(select(TotpSecret))).one()
    assert row.key_id == "new"
    assert Vault((new.model_copy(update={"state": "active"}),)).open(row) == ada.secret


async def test_recovery_codes_outlive_a_rotation(
    guard: Guard, asked_for: AskedFor, answer: Answer, vault: Vault
) -> None:
    ada = await guard()

    await answer((await asked_for(ada.account)).challenge, ada.recovery[0], vault=vault)


def test_recovery_codes_are_random_and_in_groups() -> None:
    shown = [code for _ in range(100) for code in codes.new_recovery_codes()]

    assert len({*shown}) == 1000
    assert all(codes.is_recovery_code(codes.typed(code)) and len(code) == 19 for code in shown)


@given(st.text(max_size=64))
def test_whatever_is_typed_is_read_without_an_error(text: str) -> None:
    code = codes.typed(text)

    assert codes.is_recovery_code(code) in {True, False}
    assert codes.matched_step(b"12345678901234567890", code, now=utcnow()) is None or len(code) == 6


# RFC 6238, appendix B, for SHA-1, cut to six digits.
@pytest.mark.parametrize(
    ("seconds", "code"),
    [(59, "287082"), (1111111109, "081804"), (1111111111, "050471"), (1234567890, "005924"), (2000000000, "279037")],
)
def test_codes_are_those_of_the_standard(seconds: int, code: str) -> None:
    now = datetime.fromtimestamp(seconds, UTC)

    assert codes.matched_step(b"12345678901234567890", code, now=now) == seconds // 30
