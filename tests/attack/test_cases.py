"""Every case has a test, or a reason why not."""

import re

from tests.attack.cases import ADDRESSES, CASES, CONSOLE, LATER, of_features, proofs
from tests.docs.checkout import ROOT


def test_every_case_has_a_test_or_a_reason() -> None:
    proved = {case for case, tests in proofs().items() if tests}

    assert proved | LATER.keys() == {*CASES}
    assert not proved & LATER.keys()


def test_every_test_of_a_case_is_there() -> None:
    sources = [*ROOT.glob("packages/*/tests/**/test_*.py"), *ROOT.glob("tests/**/test_*.py")]
    there = {name for path in sources for name in re.findall(r"def (test_\w+)", path.read_text())}

    registers = (CONSOLE, ADDRESSES, *of_features())
    attacks = [tests for register in registers for tests in register.values()]
    named = {test for tests in [*proofs().values(), *attacks] for test in tests}

    assert named - there == set()
