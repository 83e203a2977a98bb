"""Write the boards, or with ``--check`` compare the written ones: ``python -m deploy.dashboards [--check]``."""

import argparse
import sys
from pathlib import Path

from deploy.dashboards.board import Board
from deploy.dashboards.night import night_board
from deploy.dashboards.service import service_board

FOLDER = Path(__file__).resolve().parents[1] / "helm" / "visit-consumer" / "dashboards"


def boards() -> dict[str, Board]:
    """Return every board under the name of its file."""
    return {"service.json": service_board(), "night.json": night_board()}


def main() -> int:
    """Write all files, or count those that differ from what would be written."""
    parser = argparse.ArgumentParser(prog="python -m deploy.dashboards", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; fail when a file is not as generated")
    check = parser.parse_args().check
    stale = []
    for name, board in boards().items():
        file, text = FOLDER / name, board.json()
        if check and (not file.exists() or file.read_text() != text):
            stale.append(name)
        elif not check:
            FOLDER.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
    for name in stale:
        sys.stderr.write(f"{FOLDER / name} is not as generated; run python -m deploy.dashboards\n")
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
