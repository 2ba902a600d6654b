"""`.ci/run` installs what tests need that else skip themselves."""

import re

from tests.docs.checkout import ROOT


def test_no_function_of_the_script_is_taken_for_a_program_that_it_looks_for() -> None:
    """POSIX, `command -v`: it finds functions too, so the program would count as installed, and tests be skipped."""
    script = (ROOT / ".ci/run").read_text()
    functions = set(re.findall(r"^(\w+)\(\) \{", script, re.MULTILINE))
    programs = set(re.findall(r"command -v (\w+)", script))
    programs |= {name for names in re.findall(r"for program in ([\w ]+);", script) for name in names.split()}

    assert {"promtool", "chromium"} <= programs
    assert functions.isdisjoint(programs)
