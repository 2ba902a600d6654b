"""The manifests of deploy/kubernetes are valid, and agree with the settings and routes of the applications."""

import re
from collections.abc import Iterator, Mapping
from datetime import timedelta
from pathlib import Path

import kubernetes_validate
import pytest
from fastapi.routing import APIRoute

from app_api import health
from app_api import settings as api
from app_api.database_roles import AdministratorSettings
from app_api.feature_settings import ALL_SETTINGS, READ_ELSEWHERE
from app_api.main import main
from app_db.fleet import IN_A_ROLLOUT, OF_MIGRATOR, fleet_of
from app_db.jobs.catalog import CATALOG
from app_runtime.configuration import PREFIX, load
from app_runtime.discovery import feature_folders
from app_worker import settings as worker
from app_worker.handlers import HANDLERS
from app_worker.process import database_settings
from app_worker.registry import Registry
from tests.docs.checkout import ROOT
from tests.docs.kustomize import Manifest
from tests.docs.manifests import (
    APPLICATIONS,
    MANIFESTS,
    PODS,
    POOLER,
    WITH_ALL,
    WITH_PODS,
    container,
    manifest,
    named,
    of_kind,
    scale_down,
    scalers,
)

# The oldest release that was supported at the time of writing, and the newest that the validator knows.
VERSIONS = ("1.34", kubernetes_validate.latest_version())
OPERATIONS = (ROOT / "docs/how-to/operations.md").read_text()
GROWING = (ROOT / "docs/how-to/growing.md").read_text()
OF_OTHERS = ("HTTPRoute", "PodMonitor", "ScaledObject")
"""Kinds that Kubernetes does not bring; their schemas are in no package."""
MARGIN = timedelta(seconds=5)
"""Time to close connections and to end the interpreter."""
ENDING = 1
"""Pods of a Deployment that end at once."""
MOUNTED = "/run/secrets/groundwork"
BUILT = (*APPLICATIONS, "migrate")
"""The pods that run an image of this checkout."""


def ports(name: str) -> dict[str, int]:
    return {port["name"]: port["containerPort"] for port in container(name)["ports"]}


def probes(name: str) -> Iterator[Manifest]:
    for kind in ("startupProbe", "livenessProbe", "readinessProbe"):
        if kind in container(name):
            yield container(name)[kind]


def grace(name: str) -> timedelta:
    return timedelta(seconds=PODS[name]["spec"]["terminationGracePeriodSeconds"])


@pytest.fixture
def secrets(tmp_path: Path) -> Path:
    """The file that the page makes for a Secret, with the line that its reader adds."""
    file = tmp_path / "secrets.env"
    server = ["--database", "postgresql://postgres.internal/app", "--redis", "rediss://valkey.internal:6379/0"]
    main(["config", "init", str(file), *server])
    file.write_text(f"{file.read_text()}APP_MAIL__URL='smtp://user:password@mail.internal:587'\n")
    return file


@pytest.fixture
def environment(secrets: Path) -> dict[str, str]:
    """The environment of a pod of api or worker, with the paths of its files on this machine."""
    text: dict[str, str] = of_kind("ConfigMap")[0]["data"]
    (secrets.parent / "database-ca.pem").touch()
    return {name: value.replace(MOUNTED, str(secrets.parent)) for name, value in text.items()}


@pytest.fixture
def api_settings(environment: dict[str, str]) -> api.ApiSettings:
    return load(ALL_SETTINGS, environment, elsewhere=READ_ELSEWHERE)


@pytest.fixture
def worker_settings(environment: dict[str, str]) -> worker.WorkerSettings:
    of_features = [f"{PREFIX}{folder.name.upper()}__" for folder in feature_folders("app_auth.features")]
    return load(worker.WorkerSettings, environment, elsewhere=(*worker.ELSEWHERE, *of_features))


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("manifest", [one for one in WITH_ALL if one["kind"] not in OF_OTHERS], ids=named)
def test_each_manifest_is_valid(manifest: Manifest, version: str) -> None:
    kubernetes_validate.validate(manifest, version, strict=True)


def test_the_api_starts_in_production_with_what_its_pod_is_given(api_settings: api.ApiSettings) -> None:
    assert (api_settings.env, api_settings.http.host, api_settings.http.https) == ("production", "0.0.0.0", True)


def test_the_worker_starts_in_production_with_what_its_pod_is_given(worker_settings: worker.WorkerSettings) -> None:
    worker.require_safe(worker_settings)

    assert (worker_settings.env, worker_settings.metrics.enabled) == ("production", True)


@pytest.mark.parametrize("name", PODS)
def test_a_pod_finds_its_secrets_where_the_settings_say(name: str) -> None:
    mounts = container(name)["volumeMounts"]

    assert {"name": "secrets", "mountPath": MOUNTED, "readOnly": True} in mounts


def of_secrets(pods: Mapping[str, Manifest]) -> dict[str, str]:
    volumes = {name: [each for each in pod["spec"]["volumes"] if "secret" in each] for name, pod in pods.items()}
    return {name: found["secret"]["secretName"] for name, (found,) in volumes.items()}


def test_the_migrations_are_given_the_role_that_owns_the_tables_and_nobody_else() -> None:
    plain = {each["metadata"]["name"]: each["spec"]["template"] for each in MANIFESTS if each["kind"] in WITH_PODS}

    assert of_secrets(plain) == {"api": "secrets", "worker": "secrets", "migrate": "migrator"}
    assert of_secrets(PODS) == {"api": "secrets", "worker": "worker", "migrate": "migrator", POOLER: POOLER}


def test_the_migrations_start_with_what_their_pod_is_given(secrets: Path, environment: dict[str, str]) -> None:
    told = {
        entry["name"]: entry["value"].replace(MOUNTED, str(secrets.parent)) for entry in container("migrate")["env"]
    }

    settings = load(AdministratorSettings, told)

    assert settings.database.direct_dsn.startswith("postgresql://migrator:")


def test_the_ports_of_the_pods_are_those_of_the_applications(
    api_settings: api.ApiSettings, worker_settings: worker.WorkerSettings
) -> None:
    metrics = worker_settings.metrics.port

    assert ports("api") == {"http": api_settings.http.port, "metrics": metrics}
    assert ports("worker") == {"metrics": metrics}


def test_the_probes_of_the_api_ask_for_what_there_is() -> None:
    there = {route.path for route in health.router.routes if isinstance(route, APIRoute)}

    asked = {probe["httpGet"]["path"] for probe in probes("api")}

    assert asked == {"/probe/live", "/probe/ready"} & there


def test_a_worker_that_is_not_well_holds_up_a_rollout_and_is_not_restarted_by_an_outage() -> None:
    asked = {kind: container("worker")[kind]["httpGet"] for kind in ("startupProbe", "livenessProbe", "readinessProbe")}

    assert {kind: (get["path"], get["port"]) for kind, get in asked.items()} == {
        "startupProbe": ("/live", "metrics"),
        "livenessProbe": ("/live", "metrics"),
        "readinessProbe": ("/health", "metrics"),
    }


def test_the_probes_of_the_api_ask_for_a_host_that_is_allowed(api_settings: api.ApiSettings) -> None:
    hosts = {header["value"] for probe in probes("api") for header in probe["httpGet"]["httpHeaders"]}

    assert hosts <= {*api_settings.http.allowed_hosts}


def test_the_api_is_given_the_time_that_it_takes_to_drain(api_settings: api.ApiSettings) -> None:
    drain = api_settings.http.drain_delay + api_settings.http.drain + api_settings.metrics.stop_delay

    assert grace("api") >= drain + MARGIN


def test_the_worker_is_given_the_time_that_it_takes_to_finish(worker_settings: worker.WorkerSettings) -> None:
    finish = worker_settings.worker.grace + worker_settings.metrics.stop_delay

    assert grace("worker") >= finish + MARGIN


def test_a_readiness_that_ends_is_noticed_before_the_door_closes(api_settings: api.ApiSettings) -> None:
    probe = container("api")["readinessProbe"]

    noticed = timedelta(seconds=probe["periodSeconds"] * probe["failureThreshold"])

    assert noticed < api_settings.http.drain_delay


def test_a_probe_waits_for_longer_than_the_check_behind_it() -> None:
    assert container("api")["readinessProbe"]["timeoutSeconds"] > health.CHECK_SECONDS


@pytest.mark.parametrize("name", PODS)
def test_a_pod_keeps_to_the_restricted_standard(name: str) -> None:
    pod, its_container = PODS[name]["spec"]["securityContext"], container(name)["securityContext"]

    assert (pod["runAsNonRoot"], pod["seccompProfile"]) == (True, {"type": "RuntimeDefault"})
    assert its_container == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }


@pytest.mark.parametrize("name", PODS)
def test_a_pod_is_told_nothing_by_the_cluster(name: str) -> None:
    """Variables of Services could be taken for settings, and a token of the cluster is of no use to us."""
    spec = PODS[name]["spec"]

    assert (spec["enableServiceLinks"], spec["automountServiceAccountToken"]) == (False, False)


@pytest.mark.parametrize("name", BUILT)
def test_a_pod_runs_the_image_that_is_built_for_it(name: str) -> None:
    image, _, version = container(name)["image"].rpartition("/")[2].partition(":")

    assert image.endswith(f"-{name}")
    assert re.fullmatch(r"\d+\.\d+\.\d+", version), "a tag that moves makes rollbacks a matter of luck"


@pytest.mark.parametrize("name", BUILT)
def test_a_pod_runs_as_the_user_of_its_image(name: str) -> None:
    as_whom = PODS[name]["spec"]["securityContext"]

    assert f"\nUSER {as_whom['runAsUser']}:{as_whom['runAsGroup']}\n" in (ROOT / "Dockerfile").read_text()


def most_pods(name: str) -> int:
    """Return how many pods may have connections while a release is rolled out: new ones, and one that ends."""
    surge: int = manifest("Deployment", name)["spec"]["strategy"]["rollingUpdate"]["maxSurge"]
    return scalers()[name][1] + surge + ENDING


@pytest.mark.parametrize("name", [*APPLICATIONS, POOLER])
def test_a_pod_has_ended_before_the_next_one_ends(name: str) -> None:
    """A pod that ends counts neither as surge nor as unavailable, and keeps its connections while it drains."""
    ready = timedelta(seconds=manifest("Deployment", name)["spec"]["minReadySeconds"])

    assert ready >= grace(name)


@pytest.mark.parametrize("name", APPLICATIONS)
def test_an_autoscaler_ends_a_pod_when_the_last_one_has_ended(name: str) -> None:
    """By default it ends all at once that are too many, and starts as many again when the load is back."""
    (policy,) = scale_down(name)["policies"]

    assert (policy["type"], policy["value"]) == ("Pods", ENDING)
    assert timedelta(seconds=policy["periodSeconds"]) >= grace(name)


def test_as_many_pods_as_there_may_be_fit_into_the_connections_of_their_role(
    api_settings: api.ApiSettings, worker_settings: worker.WorkerSettings
) -> None:
    of_jobs = database_settings(worker_settings, Registry(HANDLERS, catalog=CATALOG))
    told = re.findall(r"--api-processes (\d+) --workers (\d+)", OPERATIONS)
    (processes,) = {(int(apis), int(workers)) for apis, workers in told}

    fleet = fleet_of(
        api_settings.database, api_processes=processes[0], workers=processes[1], worker_pool=of_jobs.pool_size
    )

    assert processes == (scalers()["api"][1], scalers()["worker"][1])
    assert [most_pods("api"), most_pods("worker")] == [each + IN_A_ROLLOUT for each in processes]
    assert f"\n{fleet}\n" in OPERATIONS
    assert fleet.needed <= int(re.findall(r"`max_connections` (\d+)", GROWING)[0]) - OF_MIGRATOR
