"""The output of commands when nobody reads it, or when the disk is full."""

import os
import select
import sys
from pathlib import Path
from typing import IO

import pytest

from app_runtime.output import write_out


def printing_into(descriptor: int, monkeypatch: pytest.MonkeyPatch) -> IO[str]:
    stream = os.fdopen(descriptor, "w")
    monkeypatch.setattr(sys, "stdout", stream)
    return stream


def test_what_is_printed_is_there_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with printing_into(os.open(tmp_path / "out", os.O_CREAT | os.O_WRONLY), monkeypatch):
        write_out("hello\n")

        assert (tmp_path / "out").read_text() == "hello\n"


def test_a_command_whose_answer_cannot_be_written_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = printing_into(os.open("/dev/full", os.O_WRONLY), monkeypatch)

    with pytest.raises(SystemExit, match="error: the answer cannot be written: No space left on device"):
        write_out("hello\n")

    stream.close()  # says nothing more


def test_a_command_whose_answer_nobody_reads_ends_quietly(monkeypatch: pytest.MonkeyPatch) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    until_all_have_gone = select.poll()  # a child that another thread has just forked has a copy until its exec
    until_all_have_gone.register(writer, 0)
    assert until_all_have_gone.poll(30_000) == [(writer, select.POLLERR)]

    with printing_into(writer, monkeypatch), pytest.raises(SystemExit) as ended:
        write_out("hello\n")

    assert ended.value.code == 141
