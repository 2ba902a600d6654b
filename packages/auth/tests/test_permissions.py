"""The rights of operators, and how an account becomes an operator's."""

import pytest

from app_auth import sessions
from app_auth.auth import Auth
from app_auth.errors import AccountNotFound, InvalidEmail
from app_auth.permissions import OperatorRequired, is_operator, require_operator, set_role
from app_auth.principal import Principal
from app_auth.testing import MakeAccount, SignIn
from app_db import Database, Session
from app_db.models import Role
from app_db.repositories.users import UserRepository
from app_db.types import new_id, utcnow


def principal(role: Role) -> Principal:
    return Principal(new_id(), "ada@example.test", role, new_id(), utcnow())


def test_whoever_is_no_operator_is_stopped() -> None:
    assert not is_operator(principal(Role.USER))
    with pytest.raises(OperatorRequired):
        require_operator(principal(Role.USER))


def test_an_operator_passes() -> None:
    require_operator(principal(Role.OPERATOR))


async def test_a_role_counts_from_the_next_request_on(
    auth: Auth, database: Database, make_account: MakeAccount, sign_in: SignIn
) -> None:
    account, other = await make_account(), await make_account()
    tokens = [(await sign_in(each)).access_token for each in (account, other)]

    async with database.unit_of_work() as session:
        await set_role(session, email=account.email, role=Role.OPERATOR)

    asking = [await sessions.authenticate(auth, database, token=token, now=utcnow()) for token in tokens]
    assert [each.role for each in asking] == [Role.OPERATOR, Role.USER]


async def test_a_role_can_be_given_twice_and_taken_back_in_any_spelling_of_the_address(
    session: Session, make_account: MakeAccount
) -> None:
    account = await make_account(email="ada@example.test")

    for role in (Role.OPERATOR, Role.OPERATOR, Role.USER):
        await set_role(session, email="Ada@Example.test", role=role)

    user = await UserRepository(session).get(account.id)
    assert user is not None
    assert user.role is Role.USER


@pytest.mark.parametrize(
    ("email", "error"), [("nobody@example.test", AccountNotFound), ("nobody", InvalidEmail)], ids=["unknown", "none"]
)
async def test_an_address_without_an_account_gets_no_role(session: Session, email: str, error: type[Exception]) -> None:
    with pytest.raises(error):
        await set_role(session, email=email, role=Role.OPERATOR)
