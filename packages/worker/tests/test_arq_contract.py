"""What we rely on in arq, to the letter: a release that changes it is read before it is taken."""

import inspect
from collections.abc import Callable
from hashlib import sha256

import pytest
from arq import Worker, constants
from arq.jobs import deserialize_job_raw, serialize_job, serialize_result

KNOWN: dict[Callable[..., object], tuple[str, str]] = {
    Worker.__init__: (
        "edfb0cd7e05e77cf",
        "the options that switch off retries, results and signals, and `job_tasks`, which we cancel",
    ),
    Worker.run_job: (
        "589a19059ff84ee7",
        "that only the job is in `job_tasks`, and that it asks a client for pipelines only",
    ),
    Worker.finish_job: ("903f09c92830d3fd", "which keys are deleted, and that it never waits for a second call"),
    Worker.finish_failed_job: ("3e16087f318a7acf", "that a delivery which cannot be read is dropped"),
    serialize_job: ("1fc854cc50e16e5c", "the format that `Window.push` writes"),
    deserialize_job_raw: ("f330dfaff8e2160f", "the format that arq reads, and that only our deserializer does"),
    serialize_result: ("709b9d4709d5aa08", "that it is called for what failed, with values that JSON does not know"),
}


@pytest.mark.parametrize("function", KNOWN, ids=lambda function: function.__qualname__)
def test_what_we_use_of_arq_is_what_we_have_read(function: Callable[..., object]) -> None:
    known, why = KNOWN[function]

    found = sha256(inspect.getsource(function).encode()).hexdigest()[:16]

    assert found == known, (
        f"arq's {function.__qualname__} has changed. engine.py relies on {why}: read it again, then write {found} here."
    )


def test_the_keys_are_those_that_we_write_and_delete() -> None:
    assert (constants.job_key_prefix, constants.retry_key_prefix, constants.in_progress_key_prefix) == (
        "arq:job:",
        "arq:retry:",
        "arq:in-progress:",
    )
