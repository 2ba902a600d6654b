"""The details of arq that we rely on: if a new release changes one, somebody has to read it first."""

import inspect
from collections.abc import Callable
from hashlib import sha256

import pytest
from arq import Worker, constants
from arq.jobs import deserialize_job_raw

KNOWN: dict[Callable[..., object], tuple[str, str]] = {
    Worker.__init__: (
        "edfb0cd7e05e77cf",
        "the options that switch off retries, results and signals",
    ),
    Worker.run_job: (
        "589a19059ff84ee7",
        "what it asks of a client, and in which order: FakeArqClient answers exactly that",
    ),
    Worker.finish_job: ("903f09c92830d3fd", "what it asks of a client, and that it needs no answer"),
    deserialize_job_raw: ("f330dfaff8e2160f", "the terms in which FakeArqClient describes a job"),
}


@pytest.mark.parametrize("function", KNOWN, ids=lambda function: function.__qualname__)
def test_what_we_use_of_arq_is_what_we_have_read(function: Callable[..., object]) -> None:
    known, why = KNOWN[function]

    found = sha256(inspect.getsource(function).encode()).hexdigest()[:16]

    assert found == known, (
        f"arq's {function.__qualname__} has changed. The executor and its fake client rely on {why}: read it again, "
        f"then write {found} here."
    )


def test_the_key_of_a_job_ends_in_the_name_of_its_delivery() -> None:
    assert constants.job_key_prefix == "arq:job:"
