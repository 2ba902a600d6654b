"""Signing in and linking over HTTP, with a real provider."""

import asyncio
from typing import Any

import pytest
from httpx2 import AsyncClient
from sqlalchemy import func, select, update

from app_api.settings import ApiSettings
from app_api.testing import SignedIn, assert_problem, open_client
from app_auth.testing import MakeAccount
from app_db import Database
from app_db.features.providers.models import ProviderLink
from app_db.features.providers.settings import ProviderSettings
from app_db.models import AuditEvent, Job, User, UserSession
from packages.api.tests.conftest import app_of, limited
from packages.api.tests.features.providers.issuer import Issuer
from packages.api.tests.features.providers.journeys import come_back, sign_in


async def count(database: Database, model: Any) -> int:
    async with database.unit_of_work(read_only=True) as session:
        return (await session.scalars(select(func.count()).select_from(model))).one()


async def test_a_new_person_gets_an_account_without_a_password(
    api: AsyncClient, issuer: Issuer, database: Database
) -> None:
    headers = await sign_in(api)

    me = await api.get("/auth/me", headers=headers)
    assert me.json()["email"] == "ada@example.test"
    async with database.unit_of_work(read_only=True) as session:
        user = (await session.scalars(select(User))).one()
        events = [*await session.scalars(select(AuditEvent.event).order_by(AuditEvent.id))]
    assert (user.password_hash, user.email_verified_at is not None) == (None, True)
    assert events == ["registered", "signed_in"]


async def test_who_has_been_here_gets_the_account_from_before_whatever_their_address(
    api: AsyncClient, issuer: Issuer, database: Database
) -> None:
    await sign_in(api)
    issuer.person = {**issuer.person, "email": "countess@example.test", "email_verified": False}

    headers = await sign_in(api)

    assert (await api.get("/auth/me", headers=headers)).json()["email"] == "ada@example.test"
    assert await count(database, User) == 1
    [linked] = (await api.get("/auth/providers/links", headers=headers)).json()["items"]
    assert (linked["provider"], linked["issuer"]) == ("acme", issuer.url)
    assert linked["last_used_at"]


@pytest.mark.parametrize("verified", [False, "false", "True", 1, None, "yes"])
async def test_an_address_that_is_not_verified_makes_no_account(
    api: AsyncClient, issuer: Issuer, database: Database, verified: object
) -> None:
    issuer.person = {**issuer.person, "email_verified": verified}

    answer = await api.post("/auth/providers/acme/callback", json=await come_back(api))

    assert_problem(answer, 403, "provider_address_unverified")
    assert await count(database, User) == 0


@pytest.mark.parametrize("email", [None, 7, "", "no address", "a@b@c", "x" * 400 + "@example.test"])
async def test_what_gets_no_mail_makes_no_account(
    api: AsyncClient, issuer: Issuer, database: Database, email: object
) -> None:
    issuer.person = {**issuer.person, "email": email}

    answer = await api.post("/auth/providers/acme/callback", json=await come_back(api))

    assert_problem(answer, 403, "provider_address_unverified")


async def test_a_provider_may_say_that_an_address_is_verified_by_a_text(api: AsyncClient, issuer: Issuer) -> None:
    issuer.person = {**issuer.person, "email_verified": "true"}

    assert await sign_in(api)


async def test_an_address_that_has_an_account_signs_nobody_in(
    api: AsyncClient, issuer: Issuer, database: Database, make_account: MakeAccount
) -> None:
    owner = await make_account(email="Ada@example.test")

    answers = [await api.post("/auth/providers/acme/callback", json=await come_back(api)) for _ in range(5)]

    for answer in answers:
        assert_problem(answer, 403, "provider_not_linked")
    assert (await count(database, ProviderLink), await count(database, UserSession)) == (0, 0)
    async with database.unit_of_work(read_only=True) as session:
        told = await session.scalars(select(Job.payload).where(Job.kind == "email.notice"))
        events = await session.scalars(select(AuditEvent.details).where(AuditEvent.event == "sign_in_failed"))
        assert [*told] == [{"user_id": str(owner.id), "what": "provider_not_linked"}] * 5
        assert [*events] == [{"because": "provider_not_linked", "provider": "acme"}] * 5


async def test_the_owner_is_told_no_more_often_than_a_stranger_may_have_mail_sent(
    settings: ApiSettings, issuer: Issuer, database: Database, make_account: MakeAccount
) -> None:
    await make_account(email="ada@example.test")
    async with open_client(app_of(limited(settings, mail_account="1/h"))) as api:
        for _ in range(2):
            answer = await api.post("/auth/providers/acme/callback", json=await come_back(api))
            assert_problem(answer, 403, "provider_not_linked")

    async with database.unit_of_work(read_only=True) as session:
        assert len([*await session.scalars(select(Job).where(Job.kind == "email.notice"))]) == 1


async def test_a_closed_registration_lets_nobody_new_in_and_does_not_tell_who_is_here(
    settings: ApiSettings, issuer: Issuer, database: Database, make_account: MakeAccount
) -> None:
    auth = settings.auth.model_copy(update={"registration": "closed"})
    async with open_client(app_of(settings.model_copy(update={"auth": auth}))) as api:
        unknown = await api.post("/auth/providers/acme/callback", json=await come_back(api))
        await make_account(email="ada@example.test")
        known = await api.post("/auth/providers/acme/callback", json=await come_back(api))

    said = [assert_problem(answer, 403, "provider_not_linked") for answer in (unknown, known)]
    assert {**said[0], "request_id": 0} == {**said[1], "request_id": 0}
    assert await count(database, User) == 1


async def test_a_disabled_account_stays_shut(api: AsyncClient, issuer: Issuer, database: Database) -> None:
    await sign_in(api)
    async with database.unit_of_work() as session:
        await session.execute(update(User).values(disabled_at=func.now()))

    answer = await api.post("/auth/providers/acme/callback", json=await come_back(api))

    assert_problem(answer, 400, "invalid_grant")


async def test_a_second_factor_is_asked_for(api: AsyncClient, issuer: Issuer, database: Database) -> None:
    await sign_in(api)
    async with database.unit_of_work() as session:
        await session.execute(update(User).values(second_factors=["providers"]))  # any folder that is there

    answer = await api.post("/auth/providers/acme/callback", json=await come_back(api))

    problem = assert_problem(answer, 403, "second_factor_required")
    assert problem["challenge"]
    assert "access_token" not in problem


# --- replay, injection, mix-up ---------------------------------------------------------------------------------------


async def test_an_answer_is_taken_once(api: AsyncClient, issuer: Issuer) -> None:
    back = await come_back(api)
    assert (await api.post("/auth/providers/acme/callback", json=back)).status_code == 200
    fresh = await come_back(api)

    assert_problem(await api.post("/auth/providers/acme/callback", json=back), 400, "invalid_state")
    assert_problem(
        await api.post("/auth/providers/acme/callback", json={**back, "code": fresh["code"]}), 400, "invalid_state"
    )


async def test_of_answers_at_once_one_is_taken(settings: ApiSettings, issuer: Issuer) -> None:
    async with open_client(app_of(settings)) as one, open_client(app_of(settings)) as other:
        back = await come_back(one)

        sent = [client.post("/auth/providers/acme/callback", json=back) for client in (one, other) * 4]
        answers = await asyncio.gather(*sent)

    assert sorted(answer.status_code for answer in answers) == [200] + [400] * 7


async def test_a_new_person_who_comes_twice_at_once_gets_one_account(
    api: AsyncClient, issuer: Issuer, database: Database
) -> None:
    backs = [await come_back(api) for _ in range(4)]

    sent = [api.post("/auth/providers/acme/callback", json=back) for back in backs]
    answers = await asyncio.gather(*sent)

    assert [answer.status_code for answer in answers] == [200] * 4
    assert await count(database, User) == 1


async def test_an_answer_in_another_browser_is_refused(api: AsyncClient, issuer: Issuer) -> None:
    mine, theirs = await come_back(api), await come_back(api)

    stolen = {**mine, "secret": theirs["secret"]}
    injected = {**theirs, "code": mine["code"]}

    assert_problem(await api.post("/auth/providers/acme/callback", json=stolen), 400, "invalid_state")
    assert_problem(await api.post("/auth/providers/acme/callback", json=injected), 400, "invalid_provider_answer")


@pytest.mark.parametrize(
    "changes",
    [{"iss": "https://evil.example"}, {"iss": None}, {"code": "another"}],
    ids=["mix-up", "no issuer", "code"],
)
async def test_an_answer_that_is_not_the_providers_is_refused(
    api: AsyncClient, issuer: Issuer, changes: dict[str, str | None]
) -> None:
    answer = await api.post("/auth/providers/acme/callback", json={**await come_back(api), **changes})

    assert_problem(answer, 400, "invalid_provider_answer")


async def test_a_state_of_a_sign_in_links_nothing_and_the_other_way_round(
    api: AsyncClient, issuer: Issuer, signed_in: SignedIn
) -> None:
    headers = signed_in.headers
    to_link, to_sign_in = await come_back(api, to="link", headers=headers), await come_back(api)

    linked = await api.post("/auth/providers/acme/link/callback", json=to_sign_in, headers=headers)
    got_in = await api.post("/auth/providers/acme/callback", json=to_link)

    assert_problem(linked, 400, "invalid_state")
    assert_problem(got_in, 400, "invalid_state")


async def test_answers_are_throttled(settings: ApiSettings, issuer: Issuer) -> None:
    async with open_client(app_of(limited(settings, login_ip="1/h"))) as api:
        await sign_in(api)

        assert_problem(
            await api.post("/auth/providers/acme/callback", json=await come_back(api)), 429, "too_many_requests"
        )


async def test_no_connection_is_held_while_a_provider_is_asked(
    settings: ApiSettings, issuer: Issuer, signed_in: SignedIn
) -> None:
    """With one connection in all, nobody else could be answered meanwhile."""
    one = {"pool_size": 1, "read_pool_size": 1}
    few = settings.model_copy(update={"database": settings.database.model_copy(update=one)})
    async with open_client(app_of(few)) as api:
        back = await come_back(api)
        issuer.person = {**issuer.person, "sub": "somebody else"}
        linking = await come_back(api, to="link", headers=signed_in.headers)
        issuer.frozen = {"/token", "/.well-known/openid-configuration"}
        waiting = [
            asyncio.create_task(api.post("/auth/providers/acme/callback", json=back)),
            asyncio.create_task(
                api.post("/auth/providers/acme/link/callback", json=linking, headers=signed_in.headers)
            ),
        ]
        while issuer.asked[-2:] != ["/token", "/token"]:  # noqa: ASYNC110  # it runs in another thread
            await asyncio.sleep(0.01)

        assert (await api.get("/auth/me", headers=signed_in.headers)).status_code == 200
        assert (await api.post("/auth/refresh-token", json={"refresh_token": "x"})).status_code == 400
        assert (await api.get("/auth/sessions", headers=signed_in.headers)).status_code == 200
        issuer.frozen = set()
        assert [answer.status_code for answer in await asyncio.gather(*waiting)] == [200, 204]


async def test_a_provider_that_is_down_is_said_to_be(
    settings: ApiSettings, issuer: Issuer, provider_settings: ProviderSettings
) -> None:
    [provider] = provider_settings.openid
    gone = provider_settings.model_copy(
        update={"openid": (provider.model_copy(update={"issuer": "http://127.0.0.1:1"}),)}
    )
    async with open_client(app_of(settings.model_copy(update={"providers": gone}))) as api:
        answer = await api.post("/auth/providers/acme/start")

    assert_problem(answer, 503, "provider_unavailable")
    assert "127.0.0.1" not in answer.text


async def test_a_front_end_that_nobody_has_named_is_not_sent_away(
    settings: ApiSettings, issuer: Issuer, provider_settings: ProviderSettings
) -> None:
    unnamed = provider_settings.model_copy(update={"client_callback": None})
    async with open_client(app_of(settings.model_copy(update={"providers": unnamed}))) as api:
        assert_problem(await api.post("/auth/providers/acme/start"), 409, "client_callback_missing")


async def test_providers_are_listed_without_what_is_secret(api: AsyncClient, issuer: Issuer) -> None:
    assert (await api.get("/auth/providers")).json() == {"items": [{"name": "acme", "title": "Acme"}]}
    assert_problem(await api.post("/auth/providers/evil/start"), 404, "unknown_provider")
