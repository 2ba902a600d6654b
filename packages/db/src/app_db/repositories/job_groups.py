"""SQL for lists and counts of `jobs`: it reads groups of rows from an index instead of the table.

A group is a state, a queue and a kind. There are few groups, so they are found in steps: each step looks up the next
group in the index, however many rows lie between. The predicates are spelled as in the indexes, so that the planner can
prove that an index applies, whatever the parameters are.
"""

from string import Template

SET_APART = "state IN ('scheduled', 'retryable', 'discarded', 'cancelled')"
"""The predicate of `ix_jobs_set_apart`: the states that a job which runs at once and completes never has."""
ON_THEIR_WAY = "claim_at IS NOT NULL AND state IN ('dispatched', 'executing')"
"""The predicate of `ix_jobs_on_their_way`."""
MOST_GROUPS = 1000

_STEPS = Template("""
    $name AS (
        SELECT * FROM (
            WITH RECURSIVE steps AS (
                (SELECT $columns FROM jobs WHERE $where ORDER BY $columns LIMIT 1)
                UNION ALL
                SELECT following.* FROM steps, LATERAL (
                    SELECT $columns FROM jobs
                    WHERE $where AND ($columns) > ($before) ORDER BY $columns LIMIT 1
                ) AS following
            )
            SELECT * FROM steps
        ) AS steps LIMIT $most
    )
""")


def groups(name: str, columns: tuple[str, ...], where: str) -> str:
    """Return a CTE of up to `MOST_GROUPS` distinct `columns`, which an index with the predicate `where` begins with."""
    before = ", ".join(f"steps.{column}" for column in columns)
    return _STEPS.substitute(name=name, columns=", ".join(columns), where=where, before=before, most=MOST_GROUPS)


APART_GROUPS = groups("apart", ("state", "queue", "kind"), SET_APART)
ENDED_GROUPS = groups("ended", ("state", "queue", "kind"), "finished_at IS NOT NULL")
LINES = groups("lines", ("queue", "priority"), "claim_at IS NOT NULL")
"""The queues with their priorities; the index has the open jobs of each in the order in which they are due."""
