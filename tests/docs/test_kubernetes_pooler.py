"""The component of deploy/kubernetes that puts PgBouncer between Postgres and the applications."""

import re
import subprocess
from configparser import ConfigParser
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import make_url

from app_api.feature_settings import ALL_SETTINGS, READ_ELSEWHERE
from app_api.main import main
from app_db.fleet import IN_A_ROLLOUT, fleet_of
from app_db.settings import DatabaseSettings
from app_runtime.configuration import lines_of, load
from tests.docs.kustomize import Manifest, render
from tests.docs.manifests import APPLICATIONS, APPLIED, FOLDER, PODS, POOLER, container, manifest, of_kind, scalers

COMPONENT = "components/pooler"
PREFACE = (FOLDER / COMPONENT / "kustomization.yaml").read_text()
RENDERED: list[Manifest] = render(APPLIED | {"components": [COMPONENT]}, FOLDER)
WITHOUT: list[Manifest] = render(APPLIED | {"components": []}, FOLDER)
POOLED = {"name": "APP_DATABASE__POOLER", "value": "transaction"}
OLDEST = (1, 23)
"""PgBouncer's first release in which SIGTERM waits for clients, and SIGINT closes the port."""


def configuration() -> ConfigParser:
    (text,) = (each["data"]["pgbouncer.ini"] for each in RENDERED if "pgbouncer.ini" in each.get("data", {}))
    parsed = ConfigParser()
    parsed.read_string(text)
    return parsed


def at(name: str) -> str:
    return configuration()["pgbouncer"][name]


def mounts() -> dict[str, Manifest]:
    """Return the volumes of the pooler by the folders where it finds them."""
    volumes = {volume["name"]: volume for volume in PODS[POOLER]["spec"]["volumes"]}
    return {mount["mountPath"]: volumes[mount["name"]] for mount in container(POOLER)["volumeMounts"]}


@pytest.fixture
def secrets(tmp_path: Path) -> Path:
    """The folder in which the commands at the top of the component were typed."""
    server = ["--database", "postgresql://postgres.internal/app", "--redis", "rediss://valkey.internal:6379/0"]
    main(["config", "init", str(tmp_path / "secrets.env"), *server])
    commands = re.findall(r"^#   \$ (.*)$", PREFACE, re.MULTILINE)
    subprocess.run(["sh", "-euc", "\n".join(commands)], cwd=tmp_path, check=True)
    return tmp_path


def database(secrets: Path, name: str) -> DatabaseSettings:
    told = lines_of((secrets / f"{name}.env").read_text())
    (secrets / "database-ca.pem").touch()
    of_database = {name: text for name, text in told.items() if name.startswith("APP_DATABASE__")}
    more = {"APP_DATABASE__CA_PATH": str(secrets / "database-ca.pem"), POOLED["name"]: POOLED["value"]}
    return load(ALL_SETTINGS, {**told, **of_database, **more}, elsewhere=READ_ELSEWHERE).database


@pytest.mark.parametrize("name", APPLICATIONS)
def test_an_application_goes_through_the_pooler_and_knows_the_way_past_it(name: str, secrets: Path) -> None:
    settings = database(secrets, name)
    service = manifest("Service", POOLER)
    through, past = make_url(settings.dsn), make_url(settings.direct_dsn)

    assert container(name)["env"] == [POOLED]
    assert settings.is_pooled
    assert (through.host, through.port) == (service["metadata"]["name"], service["spec"]["ports"][0]["port"])
    assert (past.host, past.username, past.database) == ("postgres.internal", through.username, through.database)


def test_workers_have_a_role_of_their_own_and_the_keys_of_the_api(secrets: Path) -> None:
    api, worker = (lines_of((secrets / f"{name}.env").read_text()) for name in APPLICATIONS)
    users = [make_url(of["APP_DATABASE__URL"]) for of in (api, worker)]

    assert {name for name in api if api[name] != worker[name]} == {"APP_DATABASE__URL", "APP_DATABASE__DIRECT_URL"}
    assert [user.username for user in users] == ["app", "worker"]
    assert users[0].password != users[1].password


def test_the_pooler_knows_both_roles(secrets: Path) -> None:
    urls = [make_url(lines_of((secrets / f"{name}.env").read_text())["APP_DATABASE__URL"]) for name in APPLICATIONS]

    assert (secrets / "users.txt").read_text() == "".join(f'"{url.username}" "{url.password}"\n' for url in urls)


def test_migrations_are_told_nothing_of_the_pooler() -> None:
    (plain,) = (each for each in WITHOUT if each["kind"] == "Job")
    (pooled,) = (each for each in RENDERED if each["kind"] == "Job")

    assert pooled == plain


def test_without_the_component_nothing_knows_a_pooler() -> None:
    assert not [each for each in WITHOUT if each["metadata"]["name"] == POOLER or POOLED["name"] in str(each)]


def test_the_pooler_finds_its_files_where_its_configuration_says() -> None:
    command = Path(container(POOLER)["command"][1])
    names = ("auth_file", "client_tls_cert_file", "client_tls_key_file", "server_tls_ca_file")
    files = [Path(at(name)) for name in names]
    (config,) = (each for each in RENDERED if "pgbouncer.ini" in each.get("data", {}))
    of_component = [each for each in RENDERED if each["kind"] == "Deployment" and each["metadata"]["name"] == POOLER]

    assert command.name in config["data"]
    assert {"name": "configuration", "configMap": {"name": config["metadata"]["name"]}} in (
        of_component[0]["spec"]["template"]["spec"]["volumes"]
    )
    assert {"configMap"} < {*mounts()[str(command.parent)]}
    assert {str(file.parent) for file in files} == {folder for folder, volume in mounts().items() if "secret" in volume}
    for file in files:
        assert f"--from-file={file.name}" in PREFACE


def test_transactions_are_pooled_and_nobody_is_let_in_without_a_password_or_in_clear() -> None:
    assert (at("pool_mode"), at("auth_type")) == ("transaction", "scram-sha-256")
    assert (at("client_tls_sslmode"), at("server_tls_sslmode")) == ("require", "verify-full")


def test_the_pooler_asks_for_postgres_again_within_a_second_of_a_failure() -> None:
    """tests/e2e/pooled shows what that is for."""
    assert at("server_login_retry") == "1"


def test_the_pooler_listens_where_its_service_leads() -> None:
    (port,) = container(POOLER)["ports"]
    (of_service,) = manifest("Service", POOLER)["spec"]["ports"]

    assert int(at("listen_port")) == port["containerPort"] == of_service["port"]
    assert of_service["targetPort"] == port["name"]
    assert {container(POOLER)[kind]["tcpSocket"]["port"] for kind in ("startupProbe", "livenessProbe")} == {
        port["name"]
    }


def test_the_applications_reach_the_pooler_and_nobody_else_does() -> None:
    (policy,) = (each["spec"] for each in of_kind("NetworkPolicy") if each["metadata"]["name"] == "to-pooler")
    (rule,) = policy["ingress"]
    ((who,),) = (source["podSelector"]["matchExpressions"] for source in rule["from"])

    assert policy["podSelector"]["matchLabels"].items() <= PODS[POOLER]["metadata"]["labels"].items()
    assert (who["key"], who["operator"], tuple(who["values"])) == ("app.kubernetes.io/name", "In", APPLICATIONS)


def test_the_image_knows_the_signals_that_end_it() -> None:
    version = re.search(r":v(\d+)\.(\d+)\.\d+-p\d+$", container(POOLER)["image"])

    assert version, "a tag that moves makes rollbacks a matter of luck"
    assert (int(version[1]), int(version[2])) >= OLDEST


def test_a_pooler_that_ends_lets_others_notice_first_and_transactions_finish() -> None:
    hook = container(POOLER)["lifecycle"]["preStop"]["exec"]["command"][-1]
    waits, grace = int(re.findall(r"^sleep (\d+); kill -INT 1;", hook)[0]), PODS[POOLER]["spec"]
    probe = container(POOLER)["readinessProbe"]
    request = DatabaseSettings(url="postgresql://app@localhost/app").request_timeout

    assert waits > probe["periodSeconds"] * probe["failureThreshold"]
    assert timedelta(seconds=grace["terminationGracePeriodSeconds"] - waits) > request


def test_a_rollout_of_poolers_opens_no_more_sessions_than_the_roles_are_told() -> None:
    spec = manifest("Deployment", POOLER)["spec"]
    ending = 1
    most = spec["replicas"] + spec["strategy"]["rollingUpdate"]["maxSurge"] + ending

    assert spec["strategy"]["rollingUpdate"]["maxUnavailable"] == 0
    assert re.findall(r"--pooler-sessions (\d+)", PREFACE) == [str(most * int(at("default_pool_size")))]


def test_all_clients_have_room_in_one_pooler() -> None:
    settings = DatabaseSettings(url="postgresql://app@localhost/app")
    most = {name: scalers()[name][1] + IN_A_ROLLOUT for name in APPLICATIONS}
    fleet = fleet_of(settings, api_processes=most["api"], workers=most["worker"], worker_pool=settings.pool_size)

    assert fleet.needed < int(at("max_client_conn"))
