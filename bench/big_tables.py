"""`python -m bench.big_tables`: every list, filter and count of operators on tables as large as after a year.

Each query runs as in the API, through its repository on the read engine, `--times` times after one that warms the
caches. `--scale 0.1` seeds a tenth. The table has a line a group, and one for each question that is slow; `--all` has
one for each.
"""

import argparse
import asyncio
import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import groupby
from math import inf
from pathlib import Path

import asyncpg
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from app_db import Database, open_database
from app_db.settings import DatabaseSettings
from app_db.testing import databases
from app_runtime.testing.servers import PostgresServer
from bench.big_tables_questions import Known, Question, questions
from bench.big_tables_seed import seed
from bench.jobs_place import ROOT, quantile, say

ASKED_FOR = 10.0
"""Milliseconds that the slowest of a hundred answers may take."""


@dataclass(frozen=True)
class Answer:
    """How long the answers to a question took, in milliseconds; `cpu` is that of Postgres's session."""

    group: str
    name: str
    p50: float
    p99: float
    cpu: float
    rows: int | None
    partial: bool


async def measure(database: Database, question: Question, *, times: int) -> Answer:
    """Ask `times` times."""
    took, used, answer = [], [], None
    for _ in range(times + 1):
        async with (database.sessions if question.writes else database.read_sessions)() as session:
            pid = await session.scalar(text("SELECT pg_backend_pid()"))
            before, cpu = time.perf_counter(), _cpu(pid)
            try:
                answer = await question.ask(session)
            except DBAPIError as error:
                say(f"{question.name}: no answer: {str(error.orig).rpartition(': ')[2]}")
                return Answer(question.group, question.name, inf, inf, inf, None, partial=False)
            took.append((time.perf_counter() - before) * 1000)
            used.append(_cpu(pid) - cpu)
            if question.writes:
                await session.rollback()
    items = getattr(answer, "items", None)
    rows = len(items) if isinstance(items, Sequence) else None
    p50, p99, cpu = quantile(took[1:], 0.5), quantile(took[1:], 0.99), quantile(used[1:], 0.5)
    return Answer(question.group, question.name, p50, p99, cpu, rows, partial=getattr(answer, "partial", False))


def _group(question: Question) -> str:
    return question.group


def _cpu(pid: int) -> float:
    """Return the milliseconds that a session of Postgres has been on a CPU, which do not depend on other load."""
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) / 1e6


async def ask_all(url: str, *, times: int) -> list[Answer]:
    """Ask all questions of a seeded database."""
    settings = DatabaseSettings.model_validate({"url": url})
    async with open_database(settings, name="bench") as database:
        async with database.read_sessions() as session:
            known = await Known.look_up(session)
        answers = []
        for group, asked in groupby(sorted(questions(known), key=_group), _group):
            say(group)
            for question in asked:
                few = max(1, times // 5) if question.writes else times
                answers.append(await measure(database, question, times=few))
    return answers


def line(name: str, answers: list[Answer]) -> str:
    """Return a line of the table."""
    p50 = quantile([answer.p50 for answer in answers], 0.5)
    p99 = quantile([answer.p99 for answer in answers], 0.5)
    slowest, cpu = max(answer.p99 for answer in answers), max(answer.cpu for answer in answers)
    slow = sum(answer.p99 > ASKED_FOR for answer in answers)
    return f"{name[:70]:70} {len(answers):5} {p50:7.1f} {p99:7.1f} {slowest:9.1f} {cpu:9.1f} {slow:5}"


def table(answers: list[Answer], *, all_of_them: bool = False) -> str:
    """Return a line for each group, and one for each question that is slow."""
    lines = [f"{'':70} asked     p50     p99  slowest p99, most CPU  slow"]
    groups = dict.fromkeys(answer.group for answer in answers)
    lines += [line(group, [answer for answer in answers if answer.group == group]) for group in groups]
    lines.append(line("all", answers))
    shown = [answer for answer in answers if all_of_them or answer.p99 > ASKED_FOR]
    for answer in sorted(shown, key=lambda answer: -answer.p99):
        found = "" if answer.rows is None else f"{answer.rows} rows{', ended early' if answer.partial else ''}"
        lines.append(f"{line(f'  {answer.group}: {answer.name}', [answer])}  {found}")
    return "\n".join(lines)


async def main() -> None:
    """Seed a temporary server, and ask all questions."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scale", type=float, default=1)
    parser.add_argument("--times", type=int, default=100)
    parser.add_argument("--url", help="of a database that was seeded before, instead of a server of its own")
    parser.add_argument("--json", type=Path, help="a file for all figures")
    parser.add_argument("--all", action="store_true", help="a line for each question")
    options = parser.parse_args()
    if options.url:
        answers = await ask_all(options.url, times=options.times)
    else:
        with PostgresServer.temporary() as postgres:
            url = await databases.recreate(postgres.url("postgres"), "app_bench_test")
            await databases.migrate(url, root=ROOT)
            connection = await asyncpg.connect(DatabaseSettings.model_validate({"url": url}).direct_dsn)
            await seed(connection, scale=options.scale)
            await connection.close()
            answers = await ask_all(url, times=options.times)
    print(table(answers, all_of_them=options.all))
    if options.json:
        options.json.write_text(json.dumps([asdict(answer) for answer in answers], indent=1))


if __name__ == "__main__":
    asyncio.run(main())
