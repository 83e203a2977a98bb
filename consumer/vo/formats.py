"""One writer for each format: rows go in, some at a time, bytes come out; no more than those rows is kept."""

import csv
import io
import json
import struct
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import IO, Any, Final, Protocol
from xml.sax.saxutils import escape

import numpy as np
import pyarrow as pa
from astropy import units
from astropy.io import fits
from astropy.io.votable import tree
from astropy_healpix import lonlat_to_healpix
from mocpy import MOC
from pyarrow import parquet

from consumer.domain.obscore import Column

HEALPIX_ORDER: Final = 29
MOC_ORDER: Final = 10
"""Cells of 3.4 arcminutes."""

_ARROW = {
    "text": pa.string(),
    "integer": pa.int32(),
    "bigint": pa.int64(),
    "double precision": pa.float64(),
    "timestamp": pa.timestamp("us", tz="UTC"),
}
_VOTABLE = {
    "text": {"datatype": "char", "arraysize": "*"},
    "integer": {"datatype": "int"},
    "bigint": {"datatype": "long"},
    "double precision": {"datatype": "double"},
    "timestamp": {"datatype": "char", "arraysize": "*", "xtype": "timestamp"},
}
_XTYPES = {"s_region": "adql:REGION", "t_min": "mjd", "t_max": "mjd"}
_FRAMES = {"s_ra": "icrs", "s_dec": "icrs", "s_region": "icrs", "t_min": "utc", "t_max": "utc"}

_NO_XML = dict.fromkeys({*range(32), 0xFFFE, 0xFFFF} - {9, 10, 13}, "?")
"""Characters that XML 1.0 has not."""

Row = Sequence[object]


class RowWriter(Protocol):
    """Writes rows of the columns that it was made with."""

    def write(self, rows: Sequence[Row]) -> None:
        """Write some more rows."""

    def close(self) -> None:
        """Write what comes last; the file stays open."""


class CsvWriter:
    """Comma separated, names first; an empty field is null."""

    def __init__(self, file: IO[bytes], columns: Sequence[Column]) -> None:
        self._text = io.TextIOWrapper(file, encoding="utf-8", newline="", write_through=True)
        self._csv = csv.writer(self._text, lineterminator="\n")
        self._csv.writerow([column.name for column in columns])

    def write(self, rows: Sequence[Row]) -> None:
        """Write some more rows."""
        self._csv.writerows([[_one_line(_plain(value)) for value in row] for row in rows])

    def close(self) -> None:
        """Write what is buffered."""
        self._text.detach()


class JsonLinesWriter:
    """A JSON object on each line."""

    def __init__(self, file: IO[bytes], columns: Sequence[Column]) -> None:
        self._file = file
        self._names = [column.name for column in columns]

    def write(self, rows: Sequence[Row]) -> None:
        """Write some more rows."""
        for row in rows:
            named = dict(zip(self._names, map(_plain, row), strict=True))
            self._file.write(json.dumps(named, allow_nan=False).encode() + b"\n")

    def close(self) -> None:
        """Write nothing more."""


class Ds9Writer:
    """A region file of SAOImage DS9: a polygon for each row, with its filter as a tag."""

    def __init__(self, file: IO[bytes], columns: Sequence[Column]) -> None:
        self._file = file
        self._index = _index(columns)
        file.write(b"# Region file format: DS9 version 4.1\nicrs\n")

    def write(self, rows: Sequence[Row]) -> None:
        """Write some more rows."""
        at = self._index
        for row in rows:
            numbers = ",".join(_numbers(row[at["s_region"]]))
            label = str(row[at["obs_id"]]) + (f"/{row[at['detector']]}" if "detector" in at else "")
            tag = row[at["em_filter_name"]]
            tagged = "" if tag is None else f" tag={{{_braceless(str(tag))}}}"
            self._file.write(f"polygon({numbers}) # text={{{_braceless(label)}}}{tagged}\n".encode())

    def close(self) -> None:
        """Write nothing more."""


class VotableWriter:
    """VOTable 1.4, TABLEDATA, with units, UCDs, utypes, frame and time scale."""

    def __init__(self, file: IO[bytes], columns: Sequence[Column]) -> None:
        self._file = file
        head, self._foot = _votable_frame(columns)
        file.write(head)

    def write(self, rows: Sequence[Row]) -> None:
        """Write some more rows."""
        for row in rows:
            cells = "".join(f"<TD>{_cell(value)}</TD>" for value in row)
            self._file.write(f"<TR>{cells}</TR>\n".encode())

    def close(self) -> None:
        """Write the end of the document."""
        self._file.write(self._foot)


class ParquetWriter:
    """Parquet with units and UCDs as metadata of fields, footprints as WKB (GeoParquet) and HEALPix cells of centres.

    ``footprint`` has right ascension [0, 360) and declination, edges are great circles; ``_healpix_29`` is the nested
    cell of order 29.
    """

    def __init__(self, file: IO[bytes], columns: Sequence[Column]) -> None:
        self._index = _index(columns)
        fields = [pa.field(c.name, _ARROW[c.sql_type], nullable=not c.not_null, metadata=_metadata(c)) for c in columns]
        fields += [pa.field("footprint", pa.binary(), nullable=False), pa.field("_healpix_29", pa.int64())]
        geometry = {"encoding": "WKB", "geometry_types": ["Polygon"], "crs": None, "edges": "spherical"}
        geo = {"version": "1.1.0", "primary_column": "footprint", "columns": {"footprint": geometry}}
        self._schema = pa.schema(fields, metadata={"geo": json.dumps(geo)})
        self._parquet = parquet.ParquetWriter(file, self._schema, compression="zstd")

    def write(self, rows: Sequence[Row]) -> None:
        """Write some more rows, as a group."""
        values = [list(column) for column in zip(*rows, strict=True)]
        ra, dec = (np.array(values[self._index[name]], dtype=np.float64) * units.deg for name in ("s_ra", "s_dec"))
        values.append([_wkb(text) for text in values[self._index["s_region"]]])
        values.append(lonlat_to_healpix(ra, dec, 2**HEALPIX_ORDER, order="nested"))
        arrays = [pa.array(each, type=field.type) for each, field in zip(values, self._schema, strict=True)]
        self._parquet.write_batch(pa.record_batch(arrays, schema=self._schema))

    def close(self) -> None:
        """Write the footer."""
        self._parquet.close()


class Coverage:
    """The union of footprints for each filter, as MOCs."""

    def __init__(self, columns: Sequence[Column]) -> None:
        self._index = _index(columns)
        self._mocs: dict[str, Any] = {}  # mocpy has no types

    def add(self, rows: Sequence[Row]) -> None:
        """Add the footprints of some more rows."""
        polygons: dict[str, list[Any]] = {}
        for row in rows:
            name = row[self._index["em_band"]] or row[self._index["em_filter_name"]] or "unknown"
            numbers = np.array(_numbers(row[self._index["s_region"]]), dtype=np.float64)
            polygons.setdefault(str(name), []).extend((numbers[::2], numbers[1::2]))
        for name, axes in polygons.items():
            mocs = MOC.from_polygons(axes, max_depth=MOC_ORDER, n_threads=1)
            known = self._mocs.get(name, MOC.new_empty(MOC_ORDER))
            self._mocs[name] = known.union(*mocs)

    def json(self) -> bytes:
        """Return a JSON object: the MOC of each filter, as `mocpy.MOC.from_json` reads it."""
        return json.dumps({name: moc.serialize("json") for name, moc in sorted(self._mocs.items())}).encode() + b"\n"

    def fits(self) -> Mapping[str, bytes]:
        """Return a FITS file for each filter."""
        return {name: _fits(moc) for name, moc in sorted(self._mocs.items())}


def _fits(moc: Any) -> bytes:  # mocpy has no types
    hdus: fits.HDUList = moc.serialize("fits")
    buffer = io.BytesIO()
    hdus.writeto(buffer)
    return buffer.getvalue()


def _index(columns: Sequence[Column]) -> Mapping[str, int]:
    return {column.name: number for number, column in enumerate(columns)}


def _plain(value: object) -> object:
    return f"{value.isoformat()}Z" if isinstance(value, datetime) else value


def _numbers(s_region: object) -> list[str]:
    return str(s_region).split()[2:]


def _one_line(value: object) -> object:
    """Return a text without carriage returns: csv does not quote them, and readers end a row there."""
    return value.replace("\r", " ") if isinstance(value, str) else value


def _braceless(text: str) -> str:
    return " ".join(text.replace("{", "(").replace("}", ")").splitlines())


def _cell(value: object) -> str:
    if value is None:
        return ""
    return escape(str(_plain(value)).translate(_NO_XML))


def _metadata(column: Column) -> dict[str, str]:
    known = {"description": column.text, "unit": column.unit, "ucd": column.ucd, "utype": column.utype}
    return {name: text for name, text in known.items() if text}


def _wkb(s_region: object) -> bytes:
    """Encode a polygon as well-known binary: one ring, closed."""
    numbers = np.array(_numbers(s_region), dtype="<f8")
    ring = np.concatenate((numbers, numbers[:2]))
    return struct.pack("<BIII", 1, 3, 1, len(ring) // 2) + ring.tobytes()


def _votable_frame(columns: Sequence[Column]) -> tuple[bytes, bytes]:
    """Return what stands before and after the rows; astropy writes it."""
    document = tree.VOTableFile(version="1.4")
    resource = tree.Resource(type="results")
    document.resources.append(resource)
    resource.coordinate_systems.append(tree.CooSys(ID="icrs", system="ICRS", config={"version_1_1_or_later": True}))
    scale = {"timescale": "UTC", "timeorigin": 2400000.5, "refposition": "TOPOCENTER"}
    resource.time_systems.append(tree.TimeSys(ID="utc", **scale, config={"version_1_4_or_later": True}))
    table = tree.TableElement(document, name="visits")
    resource.tables.append(table)
    for column in columns:
        given = dict(_VOTABLE[column.sql_type])
        if column.name in _XTYPES:
            given["xtype"] = _XTYPES[column.name]
        field = tree.Field(
            document,
            ID=column.name,
            name=column.name,
            unit=column.unit or None,
            ucd=column.ucd,
            utype=f"obscore:{column.utype}" if column.utype else None,
            ref=_FRAMES.get(column.name),
            **given,
        )
        field.description = column.text
        table.fields.append(field)
    table.create_arrays(0)
    buffer = io.BytesIO()
    document.to_xml(buffer)
    # Of a table without rows astropy writes the description alone.
    head, end, foot = buffer.getvalue().partition(b"</TABLE>")
    return head + b"<DATA><TABLEDATA>\n", b"</TABLEDATA></DATA>" + end + foot
