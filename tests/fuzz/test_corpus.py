"""What the fuzzer has found, and what it began with, again: without atheris."""

from pathlib import Path

import pytest

from tests.fuzz.decoder import HEADERS, KNOWN, KNOWN_EXPOSURE_VALUE, KNOWN_VALUE, PLAIN
from tests.fuzz.targets import CORPUS, TARGETS

FILES = sorted(path for path in CORPUS.rglob("*") if path.is_file())


def test_the_corpus_of_the_decoder_reaches_both_ends() -> None:
    decoder = [path.read_bytes() for path in FILES if path.parent.name == "decoder"]
    assert PLAIN.decode(KNOWN_VALUE) == KNOWN
    assert {KNOWN_VALUE, KNOWN_EXPOSURE_VALUE} <= {*decoder}
    assert any(len(each) > 100 for each in decoder)
    assert len(set(HEADERS)) == len(HEADERS)


@pytest.mark.parametrize("target", TARGETS)
def test_each_target_has_a_corpus(target: str) -> None:
    assert sum(path.parent.name == target for path in FILES) >= 10


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}-{path.name}")
def test_what_the_fuzzer_found_ends_as_a_value_or_a_refusal(path: Path) -> None:
    TARGETS[path.parent.name](path.read_bytes())
