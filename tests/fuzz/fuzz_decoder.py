"""Coverage-guided fuzzing of the decoder; needs atheris, which the package itself never does.

``python -m tests.fuzz.fuzz_decoder tests/fuzz/corpus -max_total_time=60``: libFuzzer's options apply. What it finds new
is added to the first folder; `tests/unit/events/test_corpus.py` repeats every kept file without atheris.
"""

import sys

try:
    import atheris
except ImportError:
    sys.exit("the fuzzer needs atheris: pip install atheris (it has no wheel for some systems)")

with atheris.instrument_imports(include=["consumer.events", "fastavro"]):
    from tests.fuzz.target import check


def main() -> None:
    """Fuzz until told to stop, or until something breaks."""
    atheris.Setup(sys.argv, check)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
