"""The jobs of the systems that keep theirs in Valkey: arq and SAQ call them in the same way."""

from typing import Any

import asyncpg

from bench.peers import inside

type Context = dict[str, Any]  # Any: what a system keeps for its jobs


async def nothing(ctx: Context, *, number: int) -> None:
    """Return at once."""
    inside.nothing(number)


async def effect(ctx: Context, *, number: int) -> None:
    """Write a row."""
    with inside.marked(number):
        await ctx["pool"].execute(inside.INSERT, number)


async def start(ctx: Context) -> None:
    """Tell the bench that it runs."""
    inside.write_start()


async def open_pool(ctx: Context) -> None:
    """Connect the worker to Postgres."""
    ctx["pool"] = await asyncpg.create_pool(inside.POSTGRES, min_size=1, max_size=10)


async def setup() -> None:
    """Need no tables."""
