"""A worker process and a mail server that is slow, or refuses."""

from pathlib import Path

import pytest

from app_db.features.accounts.payloads import WelcomeEmail
from app_db.models import JobState
from app_db.testing.plugin import MakeUser

from .conftest import Jobs, eventually
from .smtp_server import server
from .test_main import environment, worker_process

pytestmark = pytest.mark.integration

__all__ = ["environment"]


async def test_a_worker_hands_one_copy_to_a_slow_server_and_asks_nobody_twice_who_is_gone(
    environment: dict[str, str],  # the fixture
    tmp_path: Path,
    jobs: Jobs,
    make_user: MakeUser,
) -> None:
    """RFC 5321, 4.5.3.2 and 4.2.1."""
    ada, bob = await make_user(email="ada@example.test"), await make_user(email="bob@example.test")
    log = tmp_path / "log"
    slow, gone = server(delays={"message": 6}), server({"RCPT": "550 5.1.1 <bob@example.test>: unknown"})
    async with slow.serving(), gone.serving():
        for to, user, state in ((slow, ada, JobState.COMPLETED), (gone, bob, JobState.DISCARDED)):
            job_id = await jobs.enqueue(WelcomeEmail(user_id=user.id))
            own = {**environment, "APP_MAIL__URL": f"smtp://127.0.0.1:{to.port}", "APP_MAIL__TIMEOUT": "5"}
            with worker_process(own, log):
                await eventually(lambda: jobs.scalar("SELECT bool_and(finished_at IS NOT NULL) FROM jobs"))
            assert (await jobs.get(job_id)).state is state
            assert "example.test" not in log.read_text()

    assert len(slow.messages) == 1
    assert [line for line in gone.lines if line.startswith("RCPT")] == ["RCPT TO:<bob@example.test>"]
    assert await jobs.scalar("SELECT count(*) FROM job_errors WHERE error || coalesce(trace, '') LIKE '%@%'") == 0
    assert await jobs.scalar("SELECT undeliverable_because FROM users WHERE email LIKE 'bob%'") == "RCPT: 550 5.1.1"
