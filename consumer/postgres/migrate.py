"""The schema's versions: numbered SQL files, applied in order, each once, under an advisory lock.

A migration expands first, and a later one contracts, so that replicas of the release before go on and may start again
while an upgrade is under way, or after it was rolled back. Each file's first line says with which version's release it
works: ``-- works-with: 3``.
"""

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import cast

from consumer.errors import FatalError
from consumer.model import VisitSystem
from consumer.postgres.connection import Database, Session
from consumer.postgres.row_codecs import columns

_WORKS_WITH = re.compile(r"-- works-with: (\d+)\n")
_FILE = re.compile(r"^(\d{4})_(\w+)\.sql$")


@dataclass(frozen=True, slots=True, kw_only=True)
class Migration:
    """One numbered SQL file."""

    version: int
    name: str
    text: str

    @property
    def works_with(self) -> int:
        """The oldest version whose release still runs once this one is applied."""
        match = _WORKS_WITH.match(self.text)
        if match is None:
            raise ValueError(f"migration {self.version}: its first line must be '-- works-with: N'")
        return int(match[1])

    @property
    def checksum(self) -> str:
        """SHA-256 of the file, hexadecimal; a file that was applied never changes."""
        return hashlib.sha256(self.text.encode()).hexdigest()


def migrations() -> tuple[Migration, ...]:
    """Read the package's migrations, in order of their numbers."""
    found = []
    for entry in files("consumer.postgres").joinpath("migrations").iterdir():
        match = _FILE.match(entry.name)
        if match:
            found.append(Migration(version=int(match[1]), name=match[2], text=entry.read_text(encoding="utf-8")))
    return tuple(sorted(found, key=lambda m: m.version))


def migrate(
    database: Database, *, up_to: int | None = None, obscore_schema: str | None = None
) -> tuple[Migration, ...]:
    """Bring the schema up to date, in one transaction under an advisory lock.

    The group roles get their rights on what is new, where there are these roles; see `consumer.postgres.roles`.

    Parameters
    ----------
    database
        A session of the schema's owner. The schema itself is created where it is missing.
    up_to
        Last version to apply; None: all.
    obscore_schema
        Schema that gets a view ``obscore`` of the public rows of the ObsCore table; None: none does.

    Returns
    -------
    applied
        The migrations that were applied now; none when the schema is up to date already.

    Raises
    ------
    FatalError
        When the database has a version that this release does not work with, or a file differs from what was applied.
    """
    with database.transaction() as session:
        session.run("migrations", "lock")
        session.run("migrations", "create_schema")
        session.run("migrations", "create_schema_version")
        known = _verified(session)
        wanted = [m for m in migrations() if m.version not in known and (up_to is None or m.version <= up_to)]
        for migration in wanted:
            session.script(migration.text)
            session.run(
                "migrations",
                "record",
                {
                    "version": migration.version,
                    "name": migration.name,
                    "checksum": migration.checksum,
                    "works_with": migration.works_with,
                },
            )
        if up_to is None:
            session.run("obscore", "spherical_column")
            if obscore_schema is not None:
                session.run("obscore", "public_schema", {"schema": obscore_schema})
                session.run("obscore", "public_view")
        session.run("roles", "privileges")
    return tuple(wanted)


def check_schema(database: Database) -> None:
    """Make sure that the schema is one that this release can work with.

    Raises
    ------
    FatalError
        When it is missing, older than this release needs, or so new that this release does not work with it.
    """
    with database.transaction() as session:
        if not session.rows("migrations", "has_schema_version")[0][0]:
            raise FatalError(f"schema {database.schema!r} has no tables: run 'visit-consumer migrate' first")
        applied = _verified(session)
    missing = [m.version for m in migrations() if m.version not in applied]
    if missing:
        raise FatalError(
            f"schema {database.schema!r} lacks migration {missing[0]}: run 'visit-consumer migrate' of this release"
        )


def store_visit_systems(database: Database, systems: Mapping[str, Sequence[VisitSystem]]) -> None:
    """Store the visit systems that each instrument's rule defines visits in."""
    rows = sorted((instrument, system.id, system.name) for instrument, each in systems.items() for system in each)
    with database.transaction() as session:
        session.run("positions", "upsert_visit_systems", columns(("instruments", "ids", "names"), rows))


def _verified(session: Session) -> set[int]:
    own = {m.version: m for m in migrations()}
    applied = cast("list[tuple[int, str, str, int]]", session.rows("migrations", "applied"))
    for version, name, checksum, works_with in applied:
        if version in own and own[version].checksum != checksum:
            raise FatalError(f"migration {version} ({name}) was applied from another file than this release has")
        if version not in own and works_with > max(own):
            raise FatalError(
                f"the database has schema version {version} ({name}), which works with releases of version "
                f"{works_with} and later, and this one has {max(own)}: use a later release"
            )
    return {version for version, *_ in applied}
