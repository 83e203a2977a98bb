"""Coverage-guided fuzzing of one parser; needs atheris, which the package itself never does.

``python -m tests.fuzz notifications -max_total_time=60``: libFuzzer's options apply. What it finds new is added to the
target's folder of the corpus; `tests/fuzz/test_corpus.py` repeats every kept file without atheris.
"""

import sys
from pathlib import Path

try:
    import atheris
except ImportError:
    sys.exit("the fuzzer needs atheris: pip install atheris (it has no wheel for some systems)")

with atheris.instrument_imports(include=["consumer", "fastavro", "h11", "uvicorn.protocols"]):
    from tests.fuzz.targets import CORPUS, TARGETS


def main() -> None:
    """Fuzz until told to stop, or until something breaks."""
    named = sys.argv[1] if len(sys.argv) > 1 else ""
    if named not in TARGETS:
        sys.exit(f"usage: python -m tests.fuzz TARGET [options of libFuzzer]; targets: {', '.join(TARGETS)}")
    folder: Path = CORPUS / named
    folder.mkdir(parents=True, exist_ok=True)
    atheris.Setup([sys.argv[0], str(folder), *sys.argv[2:]], TARGETS[named])
    atheris.Fuzz()


if __name__ == "__main__":
    main()
