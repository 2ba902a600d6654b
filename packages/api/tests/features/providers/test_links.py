"""Links of accounts with those at providers: made by owners, listed, taken away, and never the last way in."""

import asyncio

from httpx2 import AsyncClient
from sqlalchemy import delete, select

from app_api.settings import ApiSettings
from app_api.testing import SignedIn, assert_problem, open_client
from app_auth.testing import MakeAccount, SignIn
from app_db import Database
from app_db.features.providers.models import ProviderLink
from app_db.models import AuditEvent, Job, User, UserSession
from packages.api.tests.conftest import app_of
from packages.api.tests.features.providers.issuer import Issuer
from packages.api.tests.features.providers.journeys import come_back, grow_old, link, sign_in


async def links(api: AsyncClient, headers: dict[str, str]) -> list[dict[str, str | None]]:
    answer = await api.get("/auth/providers/links", headers=headers)
    items: list[dict[str, str | None]] = answer.json()["items"]
    return items


async def test_an_owner_links_an_account_and_signs_in_with_it(
    api: AsyncClient, issuer: Issuer, signed_in: SignedIn, database: Database
) -> None:
    linked = await link(api, signed_in.headers)

    assert linked.status_code == 204, linked.text
    [item] = await links(api, signed_in.headers)
    assert (item["provider"], item["email"], item["last_used_at"]) == ("acme", "ada@example.test", None)
    me = await api.get("/auth/me", headers=await sign_in(api))
    assert me.json()["user_id"] == str(signed_in.account.id)


async def test_links_are_audited(api: AsyncClient, issuer: Issuer, signed_in: SignedIn, database: Database) -> None:
    await link(api, signed_in.headers)
    [item] = await links(api, signed_in.headers)
    removed = await api.delete(f"/auth/providers/links/{item['id']}", headers=signed_in.headers)

    assert removed.status_code == 204
    async with database.unit_of_work(read_only=True) as session:
        rows = (await session.scalars(select(AuditEvent).order_by(AuditEvent.id))).all()
    about = [(row.event, row.user_id, row.details) for row in rows if row.event.startswith("provider_")]
    who, details = signed_in.account.id, {"issuer": issuer.url}
    assert about == [("provider_linked", who, details), ("provider_unlinked", who, details)]


async def test_the_owner_hears_of_links(
    api: AsyncClient, issuer: Issuer, signed_in: SignedIn, database: Database
) -> None:
    await link(api, signed_in.headers)
    await link(api, signed_in.headers)  # once more changes nothing
    [item] = await links(api, signed_in.headers)
    await api.delete(f"/auth/providers/links/{item['id']}", headers=signed_in.headers)

    async with database.unit_of_work(read_only=True) as session:
        told = await session.scalars(select(Job.payload).where(Job.kind == "email.notice").order_by(Job.id))
        assert [payload["what"] for payload in told] == ["provider_linked", "provider_unlinked"]


async def test_an_address_that_is_not_verified_is_not_linked(
    api: AsyncClient, issuer: Issuer, signed_in: SignedIn
) -> None:
    issuer.person = {**issuer.person, "email_verified": None}

    assert_problem(await link(api, signed_in.headers), 403, "provider_address_unverified")
    assert await links(api, signed_in.headers) == []


async def test_an_identity_opens_one_account(
    api: AsyncClient, issuer: Issuer, signed_in: SignedIn, make_account: MakeAccount, sign_in: SignIn
) -> None:
    await link(api, signed_in.headers)
    another = SignedIn(eve := await make_account(), await sign_in(eve))

    assert_problem(await link(api, another.headers), 409, "provider_link_taken")
    issuer.person = {**issuer.person, "sub": "another"}
    assert_problem(await link(api, signed_in.headers), 409, "provider_link_taken")  # one at each provider


async def test_linking_needs_a_fresh_sign_in(
    api: AsyncClient, issuer: Issuer, signed_in: SignedIn, database: Database
) -> None:
    await grow_old(database)

    answer = await api.post("/auth/providers/acme/link", headers=signed_in.headers)

    assert_problem(answer, 403, "reauthentication_required")


async def test_a_link_is_made_in_the_session_that_has_begun_it(
    api: AsyncClient, issuer: Issuer, signed_in: SignedIn, sign_in: SignIn
) -> None:
    another = SignedIn(signed_in.account, await sign_in(signed_in.account))
    back = await come_back(api, to="link", headers=signed_in.headers)

    answer = await api.post("/auth/providers/acme/link/callback", json=back, headers=another.headers)

    assert_problem(answer, 400, "invalid_state")


async def test_a_session_that_has_ended_links_nothing(
    api: AsyncClient, issuer: Issuer, signed_in: SignedIn, database: Database
) -> None:
    """It ends while the provider is asked, as by a new password."""
    back = await come_back(api, to="link", headers=signed_in.headers)
    issuer.frozen = {"/token"}
    waiting = asyncio.create_task(api.post("/auth/providers/acme/link/callback", json=back, headers=signed_in.headers))
    while "/token" not in issuer.asked:  # noqa: ASYNC110  # it runs in another thread
        await asyncio.sleep(0.01)
    async with database.unit_of_work() as session:
        await session.execute(delete(UserSession))
    issuer.frozen = set()

    assert_problem(await waiting, 401, "invalid_token")
    async with database.unit_of_work(read_only=True) as session:
        assert (await session.scalars(select(ProviderLink))).all() == []


async def test_unlinking_needs_a_fresh_sign_in(
    api: AsyncClient, issuer: Issuer, signed_in: SignedIn, database: Database
) -> None:
    await link(api, signed_in.headers)
    [item] = await links(api, signed_in.headers)
    await grow_old(database)

    answer = await api.delete(f"/auth/providers/links/{item['id']}", headers=signed_in.headers)

    assert_problem(answer, 403, "reauthentication_required")


async def test_the_link_of_somebody_else_is_not_found(
    api: AsyncClient, issuer: Issuer, signed_in: SignedIn, make_account: MakeAccount, sign_in: SignIn
) -> None:
    await link(api, signed_in.headers)
    [item] = await links(api, signed_in.headers)
    another = SignedIn(eve := await make_account(), await sign_in(eve))

    answer = await api.delete(f"/auth/providers/links/{item['id']}", headers=another.headers)

    assert_problem(answer, 404, "not_linked")
    assert await links(api, another.headers) == []


async def test_the_last_way_in_is_not_unlinked(api: AsyncClient, issuer: Issuer, database: Database) -> None:
    headers = await sign_in(api)
    [item] = await links(api, headers)

    answer = await api.delete(f"/auth/providers/links/{item['id']}", headers=headers)

    assert_problem(answer, 409, "last_way_in")
    assert len(await links(api, headers)) == 1


async def test_a_provider_that_is_not_offered_any_more_opens_nothing_and_can_be_unlinked(
    api: AsyncClient, issuer: Issuer, signed_in: SignedIn, settings: ApiSettings
) -> None:
    await link(api, signed_in.headers)
    none = settings.model_copy(update={"providers": settings.providers.model_copy(update={"openid": ()})})  # type: ignore[attr-defined]  # of a feature
    async with open_client(app_of(none)) as without:
        [item] = await links(without, signed_in.headers)
        assert item["provider"] is None
        assert_problem(await without.post("/auth/providers/acme/start"), 404, "unknown_provider")
        removed = await without.delete(f"/auth/providers/links/{item['id']}", headers=signed_in.headers)

    assert removed.status_code == 204


# --- an account without a password -----------------------------------------------------------------------------------


async def test_an_account_without_a_password_is_entered_by_none(
    api: AsyncClient, issuer: Issuer, database: Database
) -> None:
    headers = await sign_in(api)

    for password in ("-", "None", "correct horse battery 42"):
        form = {"username": "ada@example.test", "password": password}
        assert_problem(await api.post("/auth/access-token", data=form), 400, "invalid_grant")
    changed = await api.post(
        "/auth/password/change", headers=headers, json={"current_password": "", "new_password": "a new long password"}
    )
    assert_problem(changed, 400, "invalid_grant")


async def test_an_account_without_a_password_is_deleted_like_any_other(
    api: AsyncClient, issuer: Issuer, database: Database
) -> None:
    headers = await sign_in(api)
    await grow_old(database)
    assert_problem(await api.delete("/auth/me", headers=headers), 403, "reauthentication_required")

    deleted = await api.delete("/auth/me", headers=await sign_in(api))  # who signs in with a provider is fresh

    assert deleted.status_code == 204
    async with database.unit_of_work(read_only=True) as session:
        assert (await session.scalars(select(User))).all() == []
        assert (await session.scalars(select(ProviderLink))).all() == []
