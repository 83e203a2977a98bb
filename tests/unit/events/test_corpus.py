from pathlib import Path

import pytest

from tests.fuzz.target import HEADERS, KNOWN, KNOWN_EXPOSURE_VALUE, KNOWN_VALUE, PLAIN, check

CORPUS = sorted(path for path in (Path(__file__).parents[2] / "fuzz" / "corpus").iterdir() if path.is_file())


def test_the_corpus_is_there_and_reaches_both_ends() -> None:
    assert len(CORPUS) >= 20
    assert PLAIN.decode(KNOWN_VALUE) == KNOWN
    assert {KNOWN_VALUE, KNOWN_EXPOSURE_VALUE} <= {path.read_bytes() for path in CORPUS}
    assert any(len(path.read_bytes()) > 100 for path in CORPUS)
    assert len(set(HEADERS)) == len(HEADERS)


@pytest.mark.parametrize("path", CORPUS, ids=lambda path: path.name)
def test_what_the_fuzzer_found_ends_as_an_event_or_a_refusal(path: Path) -> None:
    check(path.read_bytes())
