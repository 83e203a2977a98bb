"""Exports: the rows of the ObsCore table at one moment, as a stream into a file, an object, a folder or a pipe."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from itertools import groupby
from pathlib import Path
from secrets import token_hex
from typing import IO, Final, cast

import fsspec

from consumer.domain.obscore import COLUMNS, Column
from consumer.errors import ConfigurationError
from consumer.postgres.obscore import ObscoreSnapshot, Row
from consumer.regions import bounding_circle_deg, s_region
from consumer.vo.formats import (
    Coverage,
    CsvWriter,
    Ds9Writer,
    JsonLinesWriter,
    ParquetWriter,
    RowWriter,
    VotableWriter,
)

DETECTOR: Final = Column("detector", "integer", "", "meta.id;instr.det", "", "Id of the detector", None, True)
_NAMES: Final = [column.name for column in COLUMNS]
_DAY, _RA, _DEC, _FOV, _REGION = map(_NAMES.index, ("day_obs", "s_ra", "s_dec", "s_fov", "s_region"))


class ExportFormat(StrEnum):
    """What an export is written as."""

    PARQUET = "parquet"
    VOTABLE = "votable"
    CSV = "csv"
    JSONL = "jsonl"
    DS9 = "ds9"
    MOC = "moc"


_WRITERS: Final[Mapping[ExportFormat, Callable[[IO[bytes], Sequence[Column]], RowWriter]]] = {
    ExportFormat.PARQUET: ParquetWriter,
    ExportFormat.VOTABLE: VotableWriter,
    ExportFormat.CSV: CsvWriter,
    ExportFormat.JSONL: JsonLinesWriter,
    ExportFormat.DS9: Ds9Writer,
}
_ENDINGS: Final = {ExportFormat.DS9: "reg", ExportFormat.VOTABLE: "vot"}


@dataclass(slots=True)
class Exported:
    """What was written."""

    rows: int = 0
    files: int = 0


def export(
    snapshot: ObscoreSnapshot, target: str | IO[bytes], form: ExportFormat, *, detectors: bool = False
) -> Exported:
    """Write the rows of a snapshot; memory does not grow with their number.

    Parameters
    ----------
    snapshot
        Of the rows that are wanted.
    target
        An open file; or a path or a URL that fsspec knows. One that ends in ``/`` is a folder: it gets a file for each
        night, ``day_obs=YYYYMMDD/visits.parquet``, and of MOCs a FITS file for each filter. A file appears whole or not
        at all.
    form
        Its format. MOCs that go to one file are a JSON object by filter.
    detectors
        Write a row for each detector, with its own footprint, in place of one for each visit.

    Returns
    -------
    exported
        How many rows and files.

    Raises
    ------
    ConfigurationError
        The target cannot be written.
    """
    columns = (*COLUMNS, DETECTOR) if detectors else COLUMNS
    batches = map(_of_detectors, snapshot.detectors()) if detectors else snapshot.visits()
    try:
        if form is ExportFormat.MOC:
            return _export_moc(batches, target, columns)
        if isinstance(target, str) and target.endswith("/"):
            return _export_nights(batches, target, form, columns, "detectors" if detectors else "visits")
        done = Exported(files=1)
        with _opened(target) as file:
            writer = _WRITERS[form](file, columns)
            for rows in batches:
                writer.write(rows)
                done.rows += len(rows)
            writer.close()
    except BrokenPipeError:
        raise
    except (OSError, ImportError, ValueError) as error:
        raise ConfigurationError(f"export to {target}: {error}") from error
    return done


def _export_nights(
    batches: Iterator[list[Row]], folder: str, form: ExportFormat, columns: Sequence[Column], stem: str
) -> Exported:
    """Write a file for each night; rows come night after night."""
    done = Exported()
    pieces = ((day, list(rows)) for batch in batches for day, rows in groupby(batch, key=lambda row: row[_DAY]))
    for day, nightly in groupby(pieces, key=lambda piece: piece[0]):
        name = f"{folder}day_obs={day}/{stem}.{_ENDINGS.get(form, form.value)}"
        with _opened(name) as file:
            writer = _WRITERS[form](file, columns)
            for _, rows in nightly:
                writer.write(rows)
                done.rows += len(rows)
            writer.close()
        done.files += 1
    return done


def _export_moc(batches: Iterator[list[Row]], target: str | IO[bytes], columns: Sequence[Column]) -> Exported:
    coverage, done = Coverage(columns), Exported()
    for rows in batches:
        coverage.add(rows)
        done.rows += len(rows)
    if isinstance(target, str) and target.endswith("/"):
        files = {f"{target}{name.replace('/', '_')}.fits": content for name, content in coverage.fits().items()}
    else:
        files = {cast("str", target): coverage.json()}
    for name, content in files.items():
        with _opened(name) as file:
            file.write(content)
    done.files = len(files)
    return done


def _of_detectors(rows: list[Row]) -> list[Row]:
    """Put each detector's own footprint in the place of its visit's."""
    made = []
    for row in rows:
        *values, detector, region = row
        encoding = cast("bytes", region)
        ra, dec, radius = bounding_circle_deg(encoding)
        values[_RA], values[_DEC], values[_FOV], values[_REGION] = ra, dec, 2 * radius, s_region(encoding)
        made.append((*values, detector))
    return made


@contextmanager
def _opened(target: str | IO[bytes]) -> Iterator[IO[bytes]]:
    """Open what is written; it gets its name only when all of it is there."""
    if not isinstance(target, str):
        yield target
        target.flush()
        return
    if "://" in target:
        system, path = fsspec.core.url_to_fs(target)
        with system.transaction, system.open(path, "wb") as file:
            yield file
        return
    whole = Path(target).resolve()  # what a link leads to is replaced, and not the link
    if whole.exists() and not whole.is_file():  # a pipe or a device
        with whole.open("wb") as file:
            yield file
        return
    whole.parent.mkdir(parents=True, exist_ok=True)
    # A name of its own: another export may write to the same file.
    part = whole.with_name(f".{whole.name}.{token_hex(4)}.part")
    try:
        with part.open("xb") as file:
            yield file
        part.replace(whole)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
