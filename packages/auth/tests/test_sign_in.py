"""Starting a login session."""

from app_auth.testing import MakeAccount, SignIn


async def test_an_account_can_sign_in(make_account: MakeAccount, sign_in: SignIn) -> None:
    account = await make_account()

    tokens = await sign_in(account)

    assert tokens.refresh_token.startswith("rt_")
