"""Debian's PostgreSQL 15 with pgSphere, in a folder of its own.

Late releases of PostgreSQL 15 refuse operators of Debian's pgSphere ("is already the commutator of operator"): the
copy names no commutators and negators, which matter only to a planner that finds an index's column on the right.
"""

import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.support.postgres import DEBIAN_15

_SHARE = Path("/usr/share/postgresql/15")
INSTALLED = (_SHARE / "extension" / "pg_sphere.control").exists() and DEBIAN_15.exists()
_PARTNER = re.compile(r"^\s*(COMMUTATOR|NEGATOR)\s*=[^,\n]*,\s*$", re.MULTILINE | re.IGNORECASE)


@contextmanager
def postgres_with_pgsphere() -> Iterator[Path]:
    """Give a folder of programs whose server can CREATE EXTENSION pg_sphere: it finds its files relative to itself."""
    with TemporaryDirectory(prefix="visit-consumer-pgsphere-") as name:
        root = Path(name)
        root.chmod(0o755)
        binaries, share = (root / str(path).lstrip("/") for path in (DEBIAN_15, _SHARE))
        binaries.mkdir(parents=True)
        for program in ("postgres", "initdb"):
            shutil.copy2(DEBIAN_15 / program, binaries)
        (binaries.parent / "lib").symlink_to(DEBIAN_15.parent / "lib")
        shutil.copytree(_SHARE, share, symlinks=True)
        for script in (share / "extension").glob("pg_sphere--*.sql"):
            text = script.read_text(encoding="utf-8")
            script.write_text(_PARTNER.sub("", text), encoding="utf-8")
        yield binaries
