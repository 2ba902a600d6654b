"""The cost of a job: plain arq and ours, side by side in one run, and each figure against its budget (bench/README.md).

python -m bench.jobs [--only rates,latency,enqueue,claim,idle] [--long] [--jobs 10000] [--json]

--long instead runs the sections that take minutes: the open reader, the benefit of indexes and fillfactor, the time
until jobs go on after a loss, and the ticks of crons while a worker is frozen.
"""

import argparse
import asyncio
import json
import os
import sys
from dataclasses import asdict, dataclass
from importlib.metadata import version

from app_runtime.testing.servers import PostgresServer, ValkeyServer
from bench.jobs_costs import claiming, enqueueing, idling, latency
from bench.jobs_long import reader, storage, ticks
from bench.jobs_place import Place
from bench.jobs_rates import rates
from bench.jobs_recovery import recovery
from bench.jobs_threads import threads

SHORT = ("rates", "latency", "enqueue", "claim", "idle")
LONG = ("storage", "reader", "recovery", "ticks")


@dataclass(frozen=True)
class Verdict:
    """One budget, the measured figure, and whether the budget is met."""

    what: str
    budget: str
    measured: str
    is_met: bool
    figure: float


def at_least(what: str, measured: float, least: float, unit: str) -> Verdict:
    """Judge a figure that should be high."""
    return Verdict(what, f">= {least:,.0f} {unit}", f"{measured:,.0f} {unit}", measured >= least, measured)


def at_most(what: str, measured: float, most: float, unit: str) -> Verdict:
    """Judge a figure that should be low."""
    return Verdict(what, f"<= {most:g} {unit}", f"{measured:.2f} {unit}", measured <= most, measured)


async def judge_rates(place: Place, options: argparse.Namespace) -> list[Verdict]:
    """Throughput, of the better number of worker processes."""
    found = {rate.name: rate.per_second for rate in await rates(place, jobs=options.jobs, environment=options.worker)}
    tx = max(rate for name, rate in found.items() if "tx" in name)
    lease = max(rate for name, rate in found.items() if "lease" in name)
    return [
        at_least("tx jobs", tx, 1500, "jobs/s"),
        at_least("tx jobs against plain arq's defaults", tx / found["plain arq, defaults"], 7, "x"),
        at_least("lease jobs without database work", lease, 1800, "jobs/s"),
    ]


async def judge_latency(place: Place, options: argparse.Namespace) -> list[Verdict]:
    """From enqueue to start."""
    ours, _ = await latency(place, samples=options.samples, environment=options.worker)
    return [
        at_most("enqueue to start, idle, p50", ours.p50, 5, "ms"),
        at_most("enqueue to start, idle, p99", ours.p99, 15, "ms"),
    ]


async def judge_enqueue(place: Place, options: argparse.Namespace) -> list[Verdict]:
    """The cost for the caller."""
    found = await enqueueing(place, jobs=3000, rows=100_000)
    return [
        at_most("statements of an enqueue", found.statements, 1, ""),
        at_most("NOTIFYs inside its transaction", found.notifies_inside, 0, ""),
        at_most("commands to Valkey", found.valkey_commands, 0, ""),
        at_least("enqueue_many", found.many_per_second, 50_000, "rows/s"),
    ]


async def judge_claim(place: Place, options: argparse.Namespace) -> list[Verdict]:
    """The relay's query."""
    times = await claiming(place, scheduled=options.rows, samples=options.samples)
    return [at_most(f"claim of 100 with {options.rows:,} scheduled rows, p99", times.p99, 5, "ms")]


async def judge_idle(place: Place, options: argparse.Namespace) -> list[Verdict]:
    """A worker without work."""
    share = await idling(place, seconds=20, environment=options.worker)
    return [at_most("idle worker, of a core", share.workers * 100, 2, "%")]


async def judge_storage(place: Place, options: argparse.Namespace) -> list[Verdict]:
    """Indexes and fillfactor: figures without a budget."""
    await storage(place, jobs=options.jobs, environment=options.worker)
    return []


async def judge_reader(place: Place, options: argparse.Namespace) -> list[Verdict]:
    """Fault 17."""
    found = await reader(
        place, scheduled=options.rows, backlog=options.backlog, seconds=options.seconds, environment=options.worker
    )
    return [
        at_most("claim beside an open reader, p99", found.claim_p99, 20, "ms"),
        at_least("throughput beside an open reader", found.throughput_ratio * 100, 80, "%"),
    ]


async def judge_recovery(place: Place, options: argparse.Namespace) -> list[Verdict]:
    """The time until jobs go on, for each kind of loss."""
    return [at_most(figure.what, figure.seconds, figure.bound, "s") for figure in await recovery()]


async def judge_ticks(place: Place, options: argparse.Namespace) -> list[Verdict]:
    """Fault 15: missed and doubled ticks of crons of each second, one for each `catch_up`."""
    found = await ticks(place, frozen=options.frozen)
    return [
        at_most(f"{kind}: of {counts['committed']} ticks {name}", counts[name], 0, "")
        for kind, counts in found.items()
        for name in ("lost", "duplicated", "phantom")
    ]


async def judge_threads(place: Place, options: argparse.Namespace) -> list[Verdict]:
    """Whether threads of ended jobs keep other jobs from having a thread."""
    return [at_most("a job beside hung threads has ended", await threads(place, environment=options.worker), 1, "s")]


JUDGES = {
    "rates": judge_rates,
    "latency": judge_latency,
    "enqueue": judge_enqueue,
    "claim": judge_claim,
    "idle": judge_idle,
    "storage": judge_storage,
    "reader": judge_reader,
    "recovery": judge_recovery,
    "ticks": judge_ticks,
    "threads": judge_threads,
}


def options() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help=f"of {','.join(JUDGES)}; several with commas")
    parser.add_argument("--long", action="store_true", help=f"run {','.join(LONG)}")
    parser.add_argument("--jobs", type=int, default=10_000, help="for each line of the rates and of the storage")
    parser.add_argument("--samples", type=int, default=300, help="of latency and claim")
    parser.add_argument("--rows", type=int, default=1_000_000, help="that are scheduled for tomorrow")
    parser.add_argument("--backlog", type=int, default=200_000, help="that are due while the reader is open")
    parser.add_argument("--seconds", type=float, default=600, help="for which the reader is open")
    parser.add_argument("--frozen", type=float, default=90, help="seconds for which one of three workers is frozen")
    parser.add_argument("--concurrency", type=int, default=10, help="of each worker process")
    parser.add_argument("--json", action="store_true", help="print the budgets and their figures as JSON, too")
    found = parser.parse_args()
    found.only = [name for name in found.only.split(",") if name] or (LONG if found.long else SHORT)
    if unknown := set(found.only) - set(JUDGES):
        parser.error(f"no section {', '.join(sorted(unknown))}")
    found.worker = {"APP_WORKER__CONCURRENCY": str(found.concurrency)}
    return found


async def run(postgres: PostgresServer, valkey: ValkeyServer, chosen: argparse.Namespace) -> list[Verdict]:
    """Measure the sections in turn."""
    place = await Place.prepare(postgres, valkey)
    verdicts = []
    for name in chosen.only:
        print(f"\n== {name}")
        verdicts += await JUDGES[name](place, chosen)
    await place.connection.close()
    return verdicts


def main() -> None:
    """Start everything, measure, print."""
    chosen = options()
    print(f"{os.cpu_count()} cores, load average {os.getloadavg()[0]:.1f} before the start: it should be close to 0")
    with PostgresServer.temporary(durable=True) as postgres, ValkeyServer.temporary() as valkey:
        verdicts = asyncio.run(run(postgres, valkey, chosen))
    print(f"\n{'budget':52} {'':>16} {'measured':>16}")
    for verdict in verdicts:
        word = "met" if verdict.is_met else "NOT met"
        print(f"{verdict.what:52} {verdict.budget:>16} {verdict.measured:>16}  {word}")
    if chosen.json:
        print(json.dumps([asdict(verdict) for verdict in verdicts]))
    packages = ("arq", "redis", "sqlalchemy", "asyncpg", "uvloop", "pydantic")
    print(f"Python {sys.version.split()[0]}, " + ", ".join(f"{name} {version(name)}" for name in packages))


if __name__ == "__main__":
    main()
