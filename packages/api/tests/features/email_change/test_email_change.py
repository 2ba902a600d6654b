"""/auth/email/change and its pages: asked for in a fresh session, confirmed by the link, undone by the other one."""

from httpx2 import AsyncClient
from sqlalchemy import select, update

from app_api.testing import SignedIn, assert_problem
from app_auth.auth import Auth
from app_auth.features.email_change.tokens import confirming, undoing
from app_auth.testing import Account, MakeAccount
from app_db import Database
from app_db.features.email_change.models import EmailChange, FormerEmail
from app_db.models import Job, UserSession
from app_db.types import utcnow
from packages.api.tests.conftest import Browser

NEW = "lovelace@example.com"


async def mailed_to_the_new_address(auth: Auth, database: Database) -> str:
    async with database.unit_of_work(read_only=True) as session:
        return confirming(auth.one_time_tokens, (await session.scalars(select(EmailChange))).one())


async def mailed_to_the_address_before(auth: Auth, database: Database) -> str:
    async with database.unit_of_work(read_only=True) as session:
        return undoing(auth.one_time_tokens, (await session.scalars(select(FormerEmail))).one())


async def test_an_address_is_changed_and_brought_back(
    client: AsyncClient, signed_in: SignedIn, auth: Auth, database: Database
) -> None:
    asked = await client.post("/auth/email/change", json={"email": NEW}, headers=signed_in.headers)
    token = await mailed_to_the_new_address(auth, database)
    confirmed = await client.post("/auth/email/change/confirm", json={"token": token}, headers=signed_in.headers)
    me = await client.get("/auth/me", headers=signed_in.headers)
    back = {"token": await mailed_to_the_address_before(auth, database)}
    undone = await client.post("/auth/email/change/undo", json=back)

    assert (asked.status_code, confirmed.status_code, undone.status_code) == (202, 204, 204)
    assert me.json()["email"] == NEW
    assert_problem(await client.get("/auth/me", headers=signed_in.headers), 401, "invalid_token")
    assert_problem(await client.post("/auth/email/change/undo", json=back), 400, "invalid_link")


async def test_who_is_not_signed_in_confirms_with_the_password(
    client: AsyncClient, signed_in: SignedIn, auth: Auth, database: Database
) -> None:
    await client.post("/auth/email/change", json={"email": NEW}, headers=signed_in.headers)
    body = {"token": await mailed_to_the_new_address(auth, database)}
    path = "/auth/email/change/confirm"

    assert_problem(await client.post(path, json=body), 400, "invalid_grant")
    assert_problem(await client.post(path, json=body, headers={"Authorization": "Bearer x"}), 401, "invalid_token")
    confirmed = await client.post(path, json=body | {"password": signed_in.account.password})

    assert confirmed.status_code == 204


async def test_asking_looks_the_same_for_a_taken_address(
    client: AsyncClient, signed_in: SignedIn, make_account: MakeAccount, database: Database
) -> None:
    bob = await make_account()

    free, taken = [
        await client.post("/auth/email/change", json={"email": email}, headers=signed_in.headers)
        for email in (NEW, bob.email)
    ]

    assert (taken.status_code, taken.content) == (free.status_code, free.content) == (202, free.content)
    async with database.unit_of_work(read_only=True) as session:
        jobs = (await session.scalars(select(Job).where(Job.kind == "email.change_link"))).all()
    assert [job.owner_id for job in jobs] == [None, None]  # nobody sees how long they took


async def test_what_is_refused_says_why(client: AsyncClient, signed_in: SignedIn, database: Database) -> None:
    own = await client.post(
        "/auth/email/change", json={"email": signed_in.account.email.upper()}, headers=signed_in.headers
    )
    assert_problem(own, 422, "email_unchanged")
    no_address = await client.post("/auth/email/change", json={"email": "ada"}, headers=signed_in.headers)
    assert_problem(no_address, 422, "invalid_email")
    assert_problem(await client.post("/auth/email/change", json={"email": NEW}), 401, "not_authenticated")
    async with database.unit_of_work() as session:
        await session.execute(update(UserSession).values(created_at=utcnow().replace(year=2025)))
    late = await client.post("/auth/email/change", json={"email": NEW}, headers=signed_in.headers)
    assert_problem(late, 403, "reauthentication_required")


async def test_an_address_is_changed_and_brought_back_in_the_console(
    signed_in_browser: Browser, browser: Browser, ada: Account, auth: Auth, database: Database
) -> None:
    assert "/console/account/email" in (await signed_in_browser.get("/console/account")).text
    assert ada.email in (await signed_in_browser.get("/console/account/email")).text
    refused = await signed_in_browser.post("/console/account/email", email="ada")
    assert (refused.status_code, 'value="ada"' in refused.text) == (422, True)

    asked = await signed_in_browser.post("/console/account/email", email=NEW)
    assert asked.headers["Location"] == "/console/account/email/confirm?done=email-change-sent"
    assert "a mail is on its way" in (await signed_in_browser.get(asked.headers["Location"])).text
    token = await mailed_to_the_new_address(auth, database)
    wrong = await signed_in_browser.post("/console/account/email/confirm", link=token[:-1])
    assert (wrong.status_code, "Ask for a new one" in wrong.text) == (400, True)
    link = f" https://localhost/#/change-email?token={token} "
    done = await signed_in_browser.post("/console/account/email/confirm", link=link)
    assert done.headers["Location"] == "/console/account?done=email-changed"
    assert NEW in (await signed_in_browser.get("/console/account")).text

    assert (await browser.get("/console/undo-email-change")).status_code == 200
    back = await mailed_to_the_address_before(auth, database)
    assert (await browser.post("/console/undo-email-change", link=back[:-1])).status_code == 400
    undone = await browser.post("/console/undo-email-change", link=back)
    assert undone.headers["Location"] == "/console/sign-in?done=email-change-undone"
    assert "the one before" in (await browser.get(undone.headers["Location"])).text
    assert (await signed_in_browser.get("/console/account")).status_code == 303
