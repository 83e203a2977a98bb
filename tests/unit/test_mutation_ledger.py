"""The ledger of mutants follows the code: a line that changed takes its entry along."""

from pathlib import Path

import pytest

from tests.mutations.ledger import ROOT, Mutant, read_ledger

LEDGER = read_ledger()


def test_the_ledger_names_each_mutant_once() -> None:
    assert len({mutant.id for mutant in LEDGER}) == len(LEDGER) > 50


@pytest.mark.parametrize("mutant", LEDGER, ids=lambda mutant: mutant.id)
def test_a_mutants_line_stands_once_in_its_file_and_its_tests_exist(mutant: Mutant) -> None:
    assert mutant.occurrences() == 1
    assert mutant.line != mutant.changed
    assert mutant.tests
    for test in mutant.tests:
        file, *_, name = test.split("::")
        assert f"def {name}(" in (ROOT / Path(file)).read_text(encoding="utf-8")
