"""Lists of exposures where they are: a file, a URL, or a Butler registry."""

from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

from consumer.admin.exposure_files import ExposureList, exposures_of, parse_exposures, typed_value
from consumer.admin.extras import needs_extra
from consumer.errors import ConfigurationError
from consumer.task.define import DefineError

BUTLER = "butler:"
"""Before the name of a repository."""
_PARQUET = b"PAR1"
_ROWS_AT_ONCE = 10_000


def read_exposure_list(source: str, *, instrument: str, day_obs: int | None = None) -> ExposureList:
    """Read a list of exposures.

    Parameters
    ----------
    source
        A path, or a URL that fsspec knows, of JSON, CSV (`parse_exposures`) or Parquet; or ``butler:REPO``, the
        exposures of a Butler registry. The columns of Parquet have the event's names; null and NaN are null.
    instrument
        Of all exposures.
    day_obs
        Of a registry, only this observing day; a file is read whole.

    Raises
    ------
    ConfigurationError
        When it cannot be read, or a library for it is not installed.
    DefineError
        When an entry of it is no exposure of the instrument; names its place.
    TransientError
        When a registry is unavailable.
    """
    if source.startswith(BUTLER):
        with needs_extra("butler", source):
            from consumer.butler.registry import ButlerRegistry  # noqa: PLC0415 -- an extra
        registry = ButlerRegistry(source.removeprefix(BUTLER), writeable=False)
        try:
            found = registry.read_exposures(instrument, day_obs)
        finally:
            registry.close()
        return exposures_of(((f"{source}, exposure {each['id']}", each) for each in found), instrument=instrument)
    content = _content(source)
    if content.startswith(_PARQUET):
        return exposures_of(_parquet_rows(content, source), instrument=instrument)
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ConfigurationError(f"{source}: cannot be read: {error}") from error
    return parse_exposures(text, instrument=instrument, source=source)


def _content(source: str) -> bytes:
    try:
        if "://" not in source:
            return Path(source).read_bytes()
        with needs_extra("sources", source):
            import fsspec  # noqa: PLC0415 -- an extra
        with fsspec.open(source, "rb", compression="infer") as file:
            return bytes(file.read())
    except ConfigurationError:
        raise
    except Exception as error:  # each store has errors of its own
        raise ConfigurationError(f"{source}: cannot be read: {error}") from error


def _parquet_rows(content: bytes, source: str) -> Iterator[tuple[str, dict[str, Any]]]:  # of Arrow's types
    with needs_extra("vo", source):
        import pyarrow as pa  # noqa: PLC0415 -- an extra
        from pyarrow import parquet  # noqa: PLC0415 -- an extra
    try:
        batches = parquet.ParquetFile(BytesIO(content)).iter_batches(_ROWS_AT_ONCE)
        number = 0
        for batch in batches:
            for row in batch.to_pylist():
                number += 1
                place = f"{source}, row {number}"
                try:
                    yield place, {name: typed_value(name, value) for name, value in row.items() if _is_value(value)}
                except ValueError as error:
                    raise DefineError(f"{place}: {error}") from error
    except pa.ArrowException as error:
        raise ConfigurationError(f"{source}: cannot be read: {error}") from error


def _is_value(value: object) -> bool:
    return value is not None and value == value  # noqa: PLR0124 -- NaN is not itself
