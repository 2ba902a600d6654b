"""`python -m app_api config …` and `database roles`, from a new server to a rotated key."""

import argparse
import json
import resource
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import asyncpg
import pytest
from pydantic import SecretStr

from app_api import config, database_roles
from app_api.feature_settings import ALL_SETTINGS, READ_ELSEWHERE
from app_auth.keys import RINGS
from app_auth.settings import Key
from app_db.roles import make_roles as restore
from app_db.roles import roles_sql, user_of
from app_db.settings import DatabaseSettings
from app_db.testing.databases import AppRole
from app_runtime.configuration import SECRETS_FILE, Misconfigured, lines_of, load

DATABASE = "postgresql://db.example.test/shop"
REDIS = "rediss://cache.example.test/0"


def run(*arguments: str | Path, environ: Mapping[str, str] | None = None) -> list[str]:
    parser = argparse.ArgumentParser()
    config.add_commands(parser)
    return list(config.run(parser.parse_args([str(argument) for argument in arguments]), environ or {}))


@pytest.mark.parametrize(
    ("option", "url", "reason"),
    [
        ("--database", "postgresql://localhost/app?channel_binding=require", r"--database: .*\?channel_binding: "),
        ("--database", "postgresql://localhost/app?sslmode=require", r"--database: \?sslmode says"),
        ("--redis", "redis://localhost/0?socket_timeout=1", r"--redis: .*\?socket_timeout: "),
        ("--redis", "redis://cache.example.test/0", "--redis: must be rediss:// to another machine"),
    ],
)
def test_a_url_that_no_process_would_take_is_not_written(tmp_path: Path, option: str, url: str, reason: str) -> None:
    path = tmp_path / "secrets.env"

    with pytest.raises(Misconfigured, match=rf"^{reason}"):
        run("init", path, option, url)

    assert not path.exists()


def test_a_valkey_without_tls_is_written_where_the_processes_are_told_the_same(tmp_path: Path) -> None:
    """compose.yaml: nothing but its containers is in that network."""
    path = tmp_path / "secrets.env"

    run("init", path, "--redis", "redis://valkey:6379/0", environ={"APP_REDIS__TLS": "off"})

    assert lines_of(path.read_text())["APP_REDIS__URL"] == "redis://valkey:6379/0"


@pytest.fixture
def secrets(tmp_path: Path) -> Path:
    """A file of secrets that `config init` has written."""
    path = tmp_path / "secrets.env"
    run("init", path, "--database", DATABASE, "--redis", REDIS)
    return path


def settings_of(secrets: Path) -> dict[str, str]:
    """The other settings for a remote database; any file will do as its CA, because nobody connects."""
    return {SECRETS_FILE: str(secrets), "APP_DATABASE__CA_PATH": str(secrets)}


def ring_in(path: Path, name: str) -> list[dict[str, str]]:
    ring: list[dict[str, str]] = json.loads(lines_of(path.read_text())[f"APP_AUTH__{name.upper()}"])
    return ring


def test_a_new_file_of_secrets_is_all_that_production_needs(secrets: Path) -> None:
    settings = load(ALL_SETTINGS, settings_of(secrets), elsewhere=READ_ELSEWHERE)

    assert settings.database.sqlalchemy_url.username == "app"
    assert settings.redis.url.get_secret_value() == REDIS


def test_secrets_are_for_their_owner_alone(secrets: Path) -> None:
    assert [path.stat().st_mode & 0o777 for path in (secrets, config.migrator_file(secrets))] == [0o600, 0o600]


def test_no_secret_is_made_twice(secrets: Path, tmp_path: Path) -> None:
    run("init", tmp_path / "others.env")

    made = [ring_in(path, ring)[0]["secret"] for path in (secrets, tmp_path / "others.env") for ring in RINGS]
    assert len(set(made)) == 2 * len(RINGS)


def test_what_has_to_be_set_besides_is_said(tmp_path: Path) -> None:
    *_, besides = run("init", tmp_path / "secrets.env")

    assert besides.startswith("Set besides: ")
    assert {"APP_DATABASE__URL", "APP_REDIS__URL", "APP_PUBLIC_BASE_URL"} <= set(besides[13:].split(", "))


@pytest.mark.parametrize(("url", "is_said"), [(DATABASE, True), ("postgresql://127.0.0.1/shop", False)])
def test_a_database_elsewhere_is_said_to_need_a_certificate(url: str, is_said: bool, tmp_path: Path) -> None:
    *_, besides = run("init", tmp_path / "secrets.env", "--database", url)

    assert ("APP_DATABASE__CA_PATH" in besides) is is_said


@pytest.mark.parametrize("there", ["secrets.env", "secrets.env.migrator"])
def test_a_file_of_secrets_is_never_overwritten(tmp_path: Path, there: str) -> None:
    (tmp_path / there).write_text("precious")

    with pytest.raises(Misconfigured, match=f"^{there}: there already"):
        run("init", tmp_path / "secrets.env", "--database", DATABASE)

    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {there: "precious"}


def test_a_place_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match="No such file or directory"):
        run("init", tmp_path / "none" / "secrets.env")


def test_a_rotated_ring_signs_with_a_new_key_and_knows_the_old_one(secrets: Path) -> None:
    (old,) = ring_in(secrets, "keys")
    others = {ring: ring_in(secrets, ring) for ring in RINGS if ring != "keys"}

    run("rotate", "keys", "--file", secrets)

    before, new = ring_in(secrets, "keys")
    assert before == old | {"state": "verify"}
    assert new["state"] == "active"
    assert new["secret"] != old["secret"]
    assert {ring: ring_in(secrets, ring) for ring in others} == others


def test_a_ring_behind_a_byte_order_mark_is_rotated_too(secrets: Path) -> None:
    line = next(line for line in secrets.read_text().splitlines() if line.startswith("APP_AUTH__KEYS="))
    secrets.write_text(f"{line}\n", encoding="utf-8-sig")

    run("rotate", "keys", "--file", secrets)

    assert [key["state"] for key in ring_in(secrets, "keys")] == ["verify", "active"]


def test_a_rotated_file_stays_as_private_as_it_was(secrets: Path) -> None:
    secrets.chmod(0o640)

    run("rotate", "peppers", "--file", secrets)

    assert secrets.stat().st_mode & 0o777 == 0o640
    assert not secrets.with_name("secrets.env.new").exists()


def test_a_key_can_be_known_everywhere_before_it_signs(secrets: Path) -> None:
    run("rotate", "refresh_keys", "--file", secrets, "--add")
    old, new = ring_in(secrets, "refresh_keys")

    run("rotate", "refresh_keys", "--file", secrets, "--activate", new["kid"])

    assert (old["state"], new["state"]) == ("active", "verify")
    assert [key["state"] for key in ring_in(secrets, "refresh_keys")] == ["verify", "active"]


def test_a_retired_key_is_gone(secrets: Path) -> None:
    _, retire = run("rotate", "keys", "--file", secrets)
    old, new = ring_in(secrets, "keys")

    run(*retire.partition("config ")[2].split())

    assert old["kid"] in retire
    assert ring_in(secrets, "keys") == [new]


def test_the_key_that_signs_is_not_retired(secrets: Path) -> None:
    (key,) = ring_in(secrets, "keys")

    with pytest.raises(Misconfigured, match=r"^APP_AUTH__KEYS: the key .* signs: rotate first$"):
        run("rotate", "keys", "--file", secrets, "--retire", key["kid"])


def test_a_key_that_is_not_there_changes_nothing(secrets: Path) -> None:
    before = secrets.read_text()

    with pytest.raises(Misconfigured, match="APP_AUTH__KEYS: there is no key 7; there is"):
        run("rotate", "keys", "--file", secrets, "--activate", "7")

    assert secrets.read_text() == before


def test_without_a_file_the_rotated_ring_is_printed(secrets: Path) -> None:
    ring = lines_of(secrets.read_text())["APP_AUTH__KEYS"]

    (line,) = run("rotate", "keys", environ={"APP_AUTH__KEYS": ring})

    keys = [Key.model_validate(key) for key in json.loads(lines_of(line)["APP_AUTH__KEYS"])]
    assert [key.state for key in keys] == ["verify", "active"]


@pytest.mark.parametrize(
    ("environ", "reason"), [({}, "is not set"), ({"APP_AUTH__KEYS": '[{"secret": "pa55"}]'}, "is not a ring of keys")]
)
def test_what_is_no_ring_is_not_rotated(environ: dict[str, str], reason: str) -> None:
    with pytest.raises(Misconfigured) as refused:
        run("rotate", "keys", environ=environ)

    assert refused.value.lines == (f"APP_AUTH__KEYS: {reason}",)


def test_a_file_that_is_not_there_is_not_rotated(tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match="No such file"):
        run("rotate", "keys", "--file", tmp_path / "none")


def test_checked_settings_are_printed_without_secrets(secrets: Path, modest_role: AppRole) -> None:
    url = modest_role.settings.url.get_secret_value()

    lines = run("check", environ={SECRETS_FILE: str(secrets), "APP_DATABASE__URL": url})

    text = "\n".join(lines)
    assert lines[-1] == "# Fit for production."
    assert "APP_ENV=production  # default" in lines
    assert f"APP_REDIS__URL={REDIS}  # {SECRETS_FILE}" in lines
    assert str(modest_role.settings.sqlalchemy_url.password) not in text
    assert not any(ring_in(secrets, ring)[0]["secret"] in text for ring in RINGS)


def test_a_check_fails_where_production_would_not_start(secrets: Path, database_settings: DatabaseSettings) -> None:
    url = database_settings.url.get_secret_value()

    with pytest.raises(Misconfigured, match="its role is a superuser"):
        run("check", environ={SECRETS_FILE: str(secrets), "APP_DATABASE__URL": url})


@pytest.mark.parametrize(
    ("given", "line"),
    [
        ({"APP_MAIL__URL": "smtp://u:n0tshown/x@mail.example.com"}, "APP_MAIL__URL: has / "),
        ({"APP_MAIL__URL": "smtp://u:n0tshown@mail.example.com:x"}, "APP_MAIL__URL: has a port that is no number"),
        ({"APP_MAIL__URL": "smtp://"}, "APP_MAIL__URL: names no host"),
        ({"APP_MAIL__URL": "console://"}, "APP_MAIL__URL: would print mails"),
        ({"APP_MAIL__FORM": "a@example.com"}, "APP_MAIL__FORM: is no setting; the closest one is APP_MAIL__FROM"),
        ({"APP_MAIL__FROM": "a@example.com, b@example.com"}, "APP_MAIL__FROM: must be one mailbox"),
        (
            {"APP_MAIL__URL": "smtp://u:n0tshown@mail.example.com", "APP_MAIL__TLS": "off"},
            "APP_MAIL__TLS: is off, so the password",
        ),
        ({"APP_PUBLIC_BASE_URL": "https://"}, "APP_PUBLIC_BASE_URL: "),
        ({"APP_PUBLIC_BASE_URL": "http://app.example.com"}, "APP_PUBLIC_BASE_URL: must be https"),
    ],
)
def test_a_check_reads_the_settings_of_mail_as_the_worker_does(secrets: Path, given: dict[str, str], line: str) -> None:
    with pytest.raises(Misconfigured) as refused:
        run("check", environ={**settings_of(secrets), "APP_HTTP__ALLOWED_HOSTS": '["app.example.com"]', **given})

    assert str(refused.value).startswith(line)
    assert "n0tshown" not in str(refused.value)


def test_a_check_prints_what_is_given_of_mail(secrets: Path) -> None:
    mail = {"APP_MAIL__URL": "smtp://u:n0tshown@mail.example.com:587", "APP_MAIL__FROM": "Acme, Inc. <a@example.com>"}
    environ = {**settings_of(secrets), "APP_ENV": "test", "APP_WORKER__CONCURRENCY": "3", **mail}

    lines = [line for line in run("check", environ=environ) if line.startswith(("APP_MAIL", "APP_WORKER"))]

    assert lines == [
        "APP_MAIL__URL=smtp://…@mail.example.com:587  # variable",
        'APP_MAIL__FROM="Acme, Inc." <a@example.com>  # variable',
    ]


def test_a_check_fails_when_the_database_does_not_answer(secrets: Path) -> None:
    away = {SECRETS_FILE: str(secrets), "APP_DATABASE__URL": "postgresql://app@127.0.0.1:1/app"}

    with pytest.raises(Misconfigured, match=r"^APP_DATABASE__URL: the database does not answer$"):
        run("check", environ=away)


def test_a_check_says_why_the_database_lets_nobody_in(secrets: Path, database_settings: DatabaseSettings) -> None:
    url = database_settings.sqlalchemy_url.set(username="nobody", password="none-such")
    refused = {SECRETS_FILE: str(secrets), "APP_DATABASE__URL": url.render_as_string(hide_password=False)}

    with pytest.raises(Misconfigured, match=r"^APP_DATABASE__URL: the database refuses: .* \"nobody\"") as error:
        run("check", environ=refused)

    assert "none-such" not in str(error.value)


def test_a_check_refuses_a_direct_url_through_a_pooler(secrets: Path, modest_role: AppRole) -> None:
    """Whether it leads through one is asked by `app_db.pooler`, and tested there."""
    url = modest_role.settings.url.get_secret_value()
    past = {"APP_DATABASE__DIRECT_URL": "postgresql://app@127.0.0.1:1/app"}
    away = {SECRETS_FILE: str(secrets), "APP_DATABASE__URL": url, **past}

    with pytest.raises(Misconfigured, match=r"^APP_DATABASE__DIRECT_URL: the database does not answer$"):
        run("check", environ=away)


def test_a_check_of_development_says_that_it_is_one(secrets: Path) -> None:
    *_, verdict = run("check", environ={**settings_of(secrets), "APP_ENV": "development"})

    assert verdict == "# Fit for development. What only production refuses was not looked for."


async def make_roles(*arguments: str | Path, administrator: str = "") -> list[str]:
    parser = argparse.ArgumentParser()
    database_roles.add_commands(parser)
    parsed = parser.parse_args(["roles", *(str(argument) for argument in arguments)])
    environ = {"APP_DATABASE__URL": administrator} | {"APP_HTTP__PORT": "1"}
    return list(await database_roles.run(parsed, environ))


async def test_roles_are_printed_without_a_database_and_without_passwords(secrets: Path) -> None:
    (script,) = await make_roles("--print", "--secrets", secrets, "--readonly", "people", "--connection-limit", "7")

    passwords = [
        user_of(lines_of(path.read_text())["APP_DATABASE__URL"])[1].get_secret_value()
        for path in (secrets, config.migrator_file(secrets))
    ]
    assert "ALTER ROLE app LOGIN CONNECTION LIMIT 7 PASSWORD 'SCRAM-SHA-256$" in script
    assert "ALTER ROLE migrator LOGIN" in script
    assert "ALTER ROLE people NOLOGIN" in script
    assert not any(str(password) in script for password in passwords)


async def test_a_file_without_the_urls_of_the_roles_is_refused(tmp_path: Path) -> None:
    run("init", tmp_path / "secrets.env")

    with pytest.raises(Misconfigured, match="has no APP_DATABASE__URL; `config init --database URL` writes it"):
        await make_roles("--print", "--secrets", tmp_path / "secrets.env")


@pytest.fixture
async def role_with_other_passwords(modest_role: AppRole) -> AsyncIterator[AppRole]:
    """The role of the applications, for a test that changes its password."""
    yield modest_role
    password = SecretStr(str(modest_role.settings.sqlalchemy_url.password))
    await restore(modest_role.administrator, roles_sql(modest_role.roles, passwords={modest_role.roles.app: password}))


async def test_the_roles_that_a_file_of_secrets_names_can_sign_in(
    role_with_other_passwords: AppRole, tmp_path: Path
) -> None:
    roles, administrator = role_with_other_passwords.roles, role_with_other_passwords.administrator
    secrets = tmp_path / "secrets.env"
    server = administrator.sqlalchemy_url.set(drivername="postgresql", username=roles.app)
    run("init", secrets, "--database", server.render_as_string(hide_password=False), "--redis", REDIS)
    options: list[str | Path] = ["--secrets", secrets, "--migrator", roles.migrator, "--readonly", roles.readonly]

    (line,) = await make_roles(*options, administrator=administrator.url.get_secret_value())

    assert line == f"{roles.migrator} migrates, {roles.app} runs the applications, members of {roles.readonly} read"
    assert run("check", environ={SECRETS_FILE: str(secrets)})[-1] == "# Fit for production."


@pytest.fixture
async def worker_secrets(modest_role: AppRole, tmp_path: Path) -> AsyncIterator[Path]:
    """A file with the URL of a role for workers, and without settings of roles after the test."""
    name, database = f"{modest_role.roles.app}_worker", modest_role.administrator.sqlalchemy_url.database
    path, url = tmp_path / "worker.env", modest_role.settings.sqlalchemy_url
    named = url.set(drivername="postgresql", username=name, password="of-the-test")
    path.write_text(f"APP_DATABASE__URL='{named.render_as_string(hide_password=False)}'")
    yield path
    reset = f'ALTER ROLE {modest_role.roles.app} IN DATABASE "{database}" RESET ALL'
    await restore(modest_role.administrator, f"DROP OWNED BY {name}; DROP ROLE {name}; {reset}")


async def test_roles_carry_what_a_pooler_loses(modest_role: AppRole, worker_secrets: Path) -> None:
    names = [f"--{name}={getattr(modest_role.roles, name)}" for name in ("migrator", "app", "readonly")]
    options: list[str | Path] = [
        *names,
        "--pooler",
        "transaction",
        "--worker-secrets",
        worker_secrets,
        "--longest-job",
        "60",
    ]
    administrator = modest_role.administrator.url.get_secret_value()

    (script,) = await make_roles(*options, "--print", administrator=administrator)
    (line,) = await make_roles(*options, administrator=administrator)

    worker = f"{modest_role.roles.app}_worker"
    assert f"ALTER ROLE {modest_role.roles.app} IN DATABASE %I SET statement_timeout = %L'" in script
    assert f"ALTER ROLE {worker} IN DATABASE %I SET transaction_timeout = %L', current_database(), '65000')" in script
    assert f"{modest_role.roles.app} runs the API, {worker} the workers" in line
    for url, limit in ((modest_role.settings.dsn, "2500ms"), (url_in(worker_secrets), "1min")):
        connection = await asyncpg.connect(url)
        assert await connection.fetchval("SHOW statement_timeout") == limit
        await connection.close()


async def test_without_a_role_for_workers_one_carries_it(modest_role: AppRole) -> None:
    administrator = modest_role.administrator.url.get_secret_value()

    (script,) = await make_roles("--print", "--pooler", "transaction", administrator=administrator)

    assert "ALTER ROLE app IN DATABASE %I SET search_path" in script


def url_in(path: Path) -> str:
    return lines_of(path.read_text())["APP_DATABASE__URL"]


@pytest.mark.parametrize("room", [0, 1100])
def test_a_file_of_secrets_is_whole_or_not_there(tmp_path: Path, room: int) -> None:
    """The disk is full after the first file, or within it: the next run would take half a file for complete."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, limits[1]))
    try:
        with pytest.raises(Misconfigured, match="File too large"):
            run("init", tmp_path / "secrets.env", "--database", "postgresql://db.example.test/" + "d" * 1100)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)

    assert list(tmp_path.iterdir()) == []


def test_no_file_of_secrets_stays_without_the_other(tmp_path: Path) -> None:
    """The name of the second file is too long: NAME_MAX is 255 (limits.h)."""
    name = "s" * 250

    with pytest.raises(Misconfigured, match="File name too long"):
        run("init", tmp_path / name, "--database", DATABASE)

    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("alg", ["EdDSA", "ES256"])
def test_a_ring_may_begin_with_a_key_that_others_verify_by(tmp_path: Path, alg: str) -> None:
    secrets = tmp_path / "secrets.env"

    run("init", secrets, "--alg", alg)

    assert [ring_in(secrets, name)[0]["alg"] for name in ("keys", "peppers")] == [alg, "HS256"]


def test_a_key_that_others_verify_by_is_listed_for_a_while_before_it_signs(secrets: Path) -> None:
    _, then = run("rotate", "keys", "--file", secrets, "--add", "--alg", "EdDSA")

    old, new = ring_in(secrets, "keys")
    assert (old["alg"], new["alg"], new["state"]) == ("HS256", "EdDSA", "verify")
    assert "300 seconds later" in then
    run("rotate", "keys", "--file", secrets, "--activate", new["kid"])
    run("rotate", "keys", "--file", secrets)
    assert [key["alg"] for key in ring_in(secrets, "keys")] == ["HS256", "EdDSA", "EdDSA"]


def test_only_the_ring_of_access_tokens_has_several_algorithms(secrets: Path) -> None:
    with pytest.raises(Misconfigured, match=r"^--alg: only the ring keys"):
        run("rotate", "peppers", "--file", secrets, "--alg", "EdDSA")
