"""Other systems of background jobs beside ours, in turn on the same servers (bench/README.md).

python -m bench.peers [--only rates,latency,enqueue,kill] [--systems groundwork-tx,arq,…] [--rounds 3] [--jobs 5000]
"""

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

from app_runtime.testing.servers import PostgresServer, ValkeyServer
from bench.jobs_place import say
from bench.peers.place import Place
from bench.peers.sections import SECTIONS, Figures
from bench.peers.systems import SYSTEMS

COLUMNS = {
    "nothing_per_second": "nothing/s",
    "nothing_worker_cpu_us": "CPU µs",
    "effect_per_second": "INSERT/s",
    "effect_worker_cpu_us": "CPU µs",
    "start_p50_ms": "start p50",
    "start_p99_ms": "p99 ms",
    "enqueue_per_second": "enqueue/s",
    "lost": "lost",
    "waiting": "waiting",
    "twice": "twice",
    "open": "open",
    "drained_seconds": "drained s",
}


def options() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default=",".join(SECTIONS), help=f"of {','.join(SECTIONS)}; several with commas")
    parser.add_argument("--systems", default=",".join(SYSTEMS), help=f"of {','.join(SYSTEMS)}")
    parser.add_argument("--rounds", type=int, default=3, help="in which the systems take turns; medians are shown")
    parser.add_argument("--jobs", type=int, default=5_000, help="of each backlog, and enqueued one by one")
    parser.add_argument("--samples", type=int, default=200, help="of latency")
    parser.add_argument("--patience", type=float, default=60, help="seconds for which jobs may wait after the kill")
    parser.add_argument("--json", nargs="?", const="-", help="write all figures to this file, or print them")
    found = parser.parse_args()
    for name, known in (("only", SECTIONS), ("systems", SYSTEMS)):
        setattr(found, name, [word for word in getattr(found, name).split(",") if word])
        if unknown := set(getattr(found, name)) - set(known):
            parser.error(f"nothing is called {', '.join(sorted(unknown))}")
    return found


def installed(names: list[str]) -> list[str]:
    """Install the systems, and leave out with a sentence those that this machine cannot install."""
    found = []
    for name in names:
        if why := SYSTEMS[name].install():
            print(f"{name} is left out, because it cannot be installed here: {why}")
        else:
            found.append(name)
    return found


async def measure(place: Place, names: list[str], chosen: argparse.Namespace) -> list[dict[str, object]]:
    """Let the systems take turns, section by section."""
    found: list[dict[str, object]] = []
    for number in range(1, chosen.rounds + 1):
        for section in chosen.only:
            for name in names:
                load = os.getloadavg()[0]
                say(f"round {number}, {section} of {name}, load {load:.1f}")
                figures: Figures = {}
                try:
                    figures = await SECTIONS[section](place, SYSTEMS[name], chosen)
                except (RuntimeError, subprocess.TimeoutExpired) as error:
                    print(f"{name}, {section}: {error}", flush=True)
                say(", ".join(f"{key} {value:.1f}" for key, value in figures.items()))
                found.append({"round": number, "section": section, "system": name, "load": load, "figures": figures})
    return found


def medians(found: list[dict[str, object]]) -> dict[str, Figures]:
    """Return the median of each figure of each system; of what a kill cost, the worst."""
    values: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for run in found:
        figures = run["figures"]
        assert isinstance(figures, dict)
        for name, value in figures.items():
            values[str(run["system"])][name].append(value)
    worst = ("lost", "waiting", "twice", "open", "drained_seconds")
    return {
        system: {name: (max if name in worst else statistics.median)(each) for name, each in figures.items()}
        for system, figures in values.items()
    }


def print_table(found: dict[str, Figures]) -> None:
    """Print a line for each system, with the columns that were measured."""
    columns = [name for name in COLUMNS if any(name in figures for figures in found.values())]
    print(f"\n{'':18}" + "".join(f"{COLUMNS[name]:>11}" for name in columns))
    for system, figures in found.items():
        print(f"{system:18}" + "".join(_cell(name, figures) for name in columns))


def _cell(name: str, figures: Figures) -> str:
    if name not in figures:
        return f"{'-':>11}"
    return f"{figures[name]:11,.1f}" if name.endswith(("_ms", "seconds")) else f"{figures[name]:11,.0f}"


def main() -> None:
    """Install, measure, print."""
    chosen = options()
    names = installed(chosen.systems)
    before = os.getloadavg()[0]
    print(f"{os.cpu_count()} cores, load average {before:.1f} before the start: it should be close to 0")
    with PostgresServer.temporary(durable=True) as postgres, ValkeyServer.temporary() as valkey:
        found = asyncio.run(measure(Place(postgres, valkey), names, chosen))
    table = medians(found)
    print_table(table)
    print(f"Python {sys.version.split()[0]}; " + ", ".join(sorted({r for n in names for r in SYSTEMS[n].requires})))
    if chosen.json:
        text = json.dumps({"load": before, "jobs": chosen.jobs, "medians": table, "runs": found}, indent=1)
        if chosen.json == "-":
            print(text)
        else:
            Path(chosen.json).write_text(text + "\n")


if __name__ == "__main__":
    main()
