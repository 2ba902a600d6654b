"""Patroni changes the primary under load: refused requests say so, and nothing that was confirmed is lost."""

import asyncio
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import pytest_asyncio
import yaml

from app_db.testing import databases
from tests.docs.checkout import ROOT

from .hosts import CALM, DATABASE, HostsSite, Play, ended, loaded
from .patroni import CONFIGURATION, Cluster, etcd, install

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900), pytest.mark.xdist_group("patroni")]

TTL: int = yaml.safe_load(CONFIGURATION.read_text())["bootstrap"]["dcs"]["ttl"]
HANGS_FOR = 8.0
"""Seconds for which a standby hangs: longer than a request waits for its commit."""
NEW_PRIMARY = ["a switchover", "a primary that hangs", "the primary"]
CHANGES = [*NEW_PRIMARY, "a standby that hangs"]


class PatroniSite(HostsSite):
    """Several hosts, whose PostgreSQL is a cluster of Patroni."""

    def __init__(self, folder: Path, cluster: Cluster) -> None:
        super().__init__(folder)
        self.cluster = cluster

    async def _open_database(self) -> str:
        await databases.migrate(await databases.recreate(self.cluster.leader_url("postgres"), DATABASE), root=ROOT)
        return self.cluster.url(DATABASE)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    folder = tmp_path_factory.mktemp("patroni")
    with etcd(folder) as port, Cluster(folder, programs=install(folder / "venv"), etcd_port=port) as cluster:
        yield cluster


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def played(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Play:
    """All changes, one after the other; each test checks another side of them."""
    async with PatroniSite(tmp_path_factory.mktemp("hosts"), cluster) as site, loaded(site) as load:
        await asyncio.sleep(CALM)
        load.begin("a switchover")
        await asyncio.to_thread(cluster.switch_over)
        await asyncio.to_thread(cluster.wait_until_whole)
        load.begin("a standby that hangs")
        standby = next(node for node in cluster.nodes if node is not cluster.leader)
        standby.signal_all(signal.SIGSTOP)
        await asyncio.sleep(HANGS_FOR)
        standby.signal_all(signal.SIGCONT)
        load.begin("calm")
        await asyncio.to_thread(cluster.wait_until_whole)
        hanging = cluster.leader
        load.begin("a primary that hangs")
        hanging.signal_postgres(signal.SIGSTOP)
        await asyncio.to_thread(cluster.wait_for_another, hanging)
        await asyncio.sleep(CALM)
        hanging.signal_postgres(signal.SIGCONT)  # it takes no write any more: it follows, or is made again
        await asyncio.to_thread(cluster.wait_until_whole)
        lost = cluster.leader
        load.begin("the primary")
        lost.lose()
        await asyncio.to_thread(cluster.wait_for_another, lost)
        site.promoted_at = time.monotonic()
        await asyncio.sleep(CALM)
        lost.start()
        await asyncio.to_thread(cluster.wait_until_whole)
        return await ended(site, load, came_back=True)


@pytest.mark.parametrize("change", CHANGES)
def test_after_a_change_everything_goes_on_by_itself(played: Play, change: str) -> None:
    print(played.acts[change])  # noqa: T201  # the figures of the page
    assert played.acts[change].goes_on, str(played.acts[change])


def test_a_standby_that_hangs_stops_nobody(played: Play) -> None:
    assert {*played.acts["a standby that hangs"].statuses} <= {200, 201}, str(played.acts["a standby that hangs"])


def test_a_planned_change_costs_less_than_a_death(played: Play) -> None:
    assert played.acts["a switchover"].longest_gap < TTL / 2


@pytest.mark.parametrize("change", NEW_PRIMARY)
def test_meanwhile_requests_are_refused_as_for_any_outage(played: Play, change: str) -> None:
    failed = [answer for answer in played.acts[change].answers if not answer.is_good]

    assert {(answer.status, answer.says_when) for answer in failed} <= {(503, True)}, str(played.acts[change])


@pytest.mark.parametrize("change", ["a primary that hangs", "the primary"])
def test_a_primary_that_is_gone_is_replaced_within_its_time_to_live(played: Play, change: str) -> None:
    assert played.acts[change].longest_gap < TTL + 10  # and the moment that promotion takes


def test_what_was_confirmed_is_there_and_each_job_ran_once(played: Play) -> None:
    assert played.accounts > 0
    assert (played.unknown_accounts, played.unmailed, played.wrong) == (0, 0, {})
    assert played.counts["committed"] > 0


def test_the_old_primary_is_a_standby_again(played: Play, cluster: Cluster) -> None:
    assert played.came_back
    assert sorted(node.state()["role"] for node in cluster.nodes) == ["primary", "replica", "replica"]
