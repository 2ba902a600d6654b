"""Hosts are lost one after the other under load: failed requests say so, and accepted work is not lost."""

import pytest
import pytest_asyncio

from .hosts import LOSSES, Play, play
from .load import CLIENTS

pytestmark = [pytest.mark.timeout(600), pytest.mark.xdist_group("hosts")]  # the first test runs the play for all

UNNOTICED = ["a worker", "Valkey"]


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def played(tmp_path_factory: pytest.TempPathFactory) -> Play:
    """The play, run once; each test checks another side of it."""
    return await play(tmp_path_factory.mktemp("hosts"), aftermath=2)


@pytest.mark.parametrize("loss", LOSSES)
def test_after_a_loss_everything_goes_on_by_itself(played: Play, loss: str) -> None:
    assert played.acts[loss].goes_on, str(played.acts[loss])


@pytest.mark.parametrize("loss", UNNOTICED)
def test_no_request_fails_for_what_none_of_them_waits_for(played: Play, loss: str) -> None:
    assert set(played.acts[loss].statuses) == {200, 201}, str(played.acts[loss])


def test_during_a_failover_requests_are_refused_as_for_any_outage(played: Play) -> None:
    failed = [answer for answer in played.acts["the primary"].answers if not answer.is_good]

    assert {(answer.status, answer.says_when) for answer in failed} == {(503, True)}


def test_no_request_fails_long_after_another_primary_took_over(played: Play) -> None:
    assert played.acts["the primary"].refused_for < played.promotion + 5  # the client's timeout is twice that


def test_of_an_api_that_dies_no_more_is_lost_than_what_it_was_answering(played: Play) -> None:
    failed = [answer for answer in played.acts["an API"].answers if not answer.is_good]

    assert len(failed) <= CLIENTS


def test_a_confirmed_registration_outlives_the_primary_that_confirmed_it(played: Play) -> None:
    assert played.accounts > 0
    assert played.unknown_accounts == 0


def test_a_mail_that_is_owed_is_sent_whatever_was_lost(played: Play) -> None:
    assert played.unmailed == 0


def test_each_accepted_job_has_its_effect_once_whatever_was_lost(played: Play) -> None:
    assert played.counts["committed"] > 0
    assert played.wrong == {}


def test_an_old_primary_that_is_back_as_a_standby_is_given_nothing_to_write(played: Play) -> None:
    assert played.came_back
