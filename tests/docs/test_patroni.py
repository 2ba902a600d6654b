"""The example of Patroni agrees with itself, the pages and the other servers; tests/e2e/test_patroni.py runs it."""

import re

import yaml

from app_runtime.testing.servers import BY_CODE_POINTS

from .checkout import ROOT

BOOTSTRAP = yaml.safe_load((ROOT / "deploy/patroni/patroni.yml").read_text())["bootstrap"]
GROWING = (ROOT / "docs/how-to/growing.md").read_text()


def test_the_leader_has_time_to_try_again_before_another_takes_over() -> None:
    """Patroni 4.1 would change the times that do not fit, and say so in its log only."""
    times = BOOTSTRAP["dcs"]

    assert times["loop_wait"] + 2 * times["retry_timeout"] <= times["ttl"]


def test_its_databases_sort_texts_as_all_others_do() -> None:
    assert {f"--{name}={value}" for option in BOOTSTRAP["initdb"] for name, value in option.items()} == {
        *BY_CODE_POINTS
    }


def test_it_carries_the_connections_of_the_page() -> None:
    (said,) = re.findall(r"`max_connections` (\d+)", GROWING)

    assert BOOTSTRAP["dcs"]["postgresql"]["parameters"]["max_connections"] == int(said)
