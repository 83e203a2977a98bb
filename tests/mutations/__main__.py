"""Does a test fail when a rule is taken out? Changes each line of the ledger in a copy of the tree and runs its tests.

    python -m tests.mutations            # all
    python -m tests.mutations I2 T4      # these

Prints a line for each; the exit code is 1 when one survives. The working tree is never touched.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.mutations.ledger import ROOT, Mutant, read_ledger

_COPIED = ("consumer", "deploy", "docs", "schemas", "tests", "pyproject.toml", "README.md")
_TIMEOUT_S = 600
_TESTS_FAILED = 1


def run_tests(tests: Sequence[str], tree: Path) -> subprocess.CompletedProcess[str]:
    """Run tests on a copy of the tree, until the first that fails."""
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:randomly", "-p", "no:cacheprovider", *tests]
    # The copy's package comes first, before the one that is installed.
    environment = {**os.environ, "PYTHONPATH": str(tree), "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run(
        command, check=False, cwd=tree, env=environment, capture_output=True, text=True, timeout=_TIMEOUT_S
    )


def judge(mutant: Mutant) -> tuple[bool, str]:
    """Change a copy and run the mutant's tests; return whether one failed, and the line that says so."""
    if mutant.occurrences() != 1:
        return False, f"{mutant.id:<4}STALE     {mutant.file} has its line {mutant.occurrences()} times, not once"
    with tempfile.TemporaryDirectory(prefix="visit-consumer-mutant-") as folder:
        tree = Path(folder)
        tree.chmod(0o755)  # a server's account may have to read what the tests give it
        for name in _COPIED:
            source = ROOT / name
            if source.is_dir():
                shutil.copytree(source, tree / name, ignore=shutil.ignore_patterns("__pycache__", "node_modules"))
            else:
                shutil.copy(source, tree / name)
        mutant.apply(tree)
        done = run_tests(mutant.tests, tree)
    if done.returncode not in {0, _TESTS_FAILED}:
        return False, f"{mutant.id:<4}BROKEN    {mutant.rule}\n{done.stdout[-2000:]}{done.stderr[-1000:]}"
    killed = done.returncode == _TESTS_FAILED
    died = next((line.split(" ")[1] for line in done.stdout.splitlines() if line.startswith("FAILED")), "")
    return killed, f"{mutant.id:<4}{'killed   ' if killed else 'SURVIVES '} {mutant.rule}  {died}"


def main(ids: Sequence[str]) -> int:
    """Judge all mutants, or those that are named."""
    ledger = {mutant.id: mutant for mutant in read_ledger()}
    unknown = [each for each in ids if each not in ledger]
    if unknown:
        print(f"not in the ledger: {', '.join(unknown)}", file=sys.stderr)  # noqa: T201 -- a command's output
        return 2
    chosen = [ledger[each] for each in ids] or list(ledger.values())
    survivors = 0
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for killed, line in pool.map(judge, chosen):
            survivors += not killed
            print(line, flush=True)  # noqa: T201 -- as above
    print(f"{len(chosen) - survivors} of {len(chosen)} killed")  # noqa: T201 -- as above
    return int(survivors > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
