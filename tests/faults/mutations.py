"""Does a test fail when a promise is taken out? One line each is changed in a copy of the tree, and the tests are run.

    python -m tests.faults.mutations

Each mutation must make at least one of its tests fail; one that survives is told, and the exit code is 1. The tests run
on a copy, so that the tree is never in a broken state.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True, slots=True)
class Mutation:
    """One promise, and what takes it out."""

    name: str
    file: str
    before: str
    after: str
    tests: tuple[str, ...]


STORE = "tests/property/test_store_model.py"
MUTATIONS = (
    Mutation(
        "the fence: fewer rows than partitions are accepted",
        "consumer/postgres/batch_tables.py",
        "if moved != len(advances):",
        "if moved > len(advances):",
        (STORE,),
    ),
    Mutation(
        "the epoch: any epoch will do",
        "consumer/postgres/sql/batch.sql",
        "    AND stored.epoch = batch.epoch\n",
        "",
        (STORE,),
    ),
    Mutation(
        "the offset row: it is written, but where it stands is not looked at",
        "consumer/postgres/sql/batch.sql",
        "    AND stored.next_offset IS NOT DISTINCT FROM batch.expected;",
        ";",
        ("tests/faults/test_fence.py",),
    ),
    Mutation(
        "the offset row: it does not move with the rows",
        "consumer/service/apply_batch.py",
        "    tables.advance(batch.advances)\n",
        "",
        (STORE,),
    ),
    Mutation(
        "the bisecting: a refused batch is a dead letter as a whole",
        "consumer/service/writer.py",
        "if len(batch.events) > 1:",
        "if len(batch.events) > 10**9:",
        ("tests/integration/test_service_bad_messages.py", "-k", "refused_exposure"),
    ),
)


def survives(mutation: Mutation, tree: Path) -> bool:
    """Change a copy of the tree, run the tests on it, and put it back; True when no test fails."""
    file = tree / mutation.file
    text = file.read_text(encoding="utf-8")
    if text.count(mutation.before) != 1:
        raise SystemExit(f"{mutation.file} has {mutation.before!r} {text.count(mutation.before)} times, not once")
    file.write_text(text.replace(mutation.before, mutation.after), encoding="utf-8")
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:randomly", "-m", "not long", *mutation.tests]
    # The copy's package comes first, before the one that is installed.
    environment = {**os.environ, "PYTHONPATH": str(tree)}
    done = subprocess.run(command, check=False, cwd=tree, env=environment, capture_output=True, text=True)
    file.write_text(text, encoding="utf-8")
    if done.returncode not in {0, 1}:
        raise SystemExit(f"{mutation.name}: the tests could not be run\n{done.stdout[-2000:]}{done.stderr[-1000:]}")
    last = [line for line in done.stdout.splitlines() if line.startswith("E  ")]
    print(f"{'SURVIVES' if done.returncode == 0 else 'killed  '}  {mutation.name}")  # noqa: T201 - a command's output
    if last:
        print(f"          {last[0][:160]}")  # noqa: T201 - as above
    return done.returncode == 0


def main() -> int:
    """Run all mutations; 1 when one survives."""
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder) / "tree"
        shutil.copytree(ROOT, tree, ignore=shutil.ignore_patterns(".venv", ".git", "__pycache__", ".*_cache", "build"))
        survivors = [mutation for mutation in MUTATIONS if survives(mutation, tree)]
    return int(bool(survivors))


if __name__ == "__main__":
    sys.exit(main())
