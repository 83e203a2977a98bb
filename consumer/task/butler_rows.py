"""Visits as rows of the Butler's tables, for people and for programs that read JSON: the output of a batch.

Columns and their order are those of the dimension universe 8; regions are ``lsst.sphgeom`` encodings in hexadecimal.
Pure: no I/O.
"""

from collections.abc import Iterable, Sequence
from dataclasses import asdict

from consumer.model import VisitRecords, VisitSystem

Row = dict[str, object]


def visit_tables(
    instrument: str, systems: Iterable[VisitSystem], visits: Iterable[VisitRecords]
) -> dict[str, list[Row]]:
    """Lay visits out as tables.

    Parameters
    ----------
    instrument
        Of all of them.
    systems
        The visit systems of the grouping rule.
    visits
        Every row of each visit, in any order.

    Returns
    -------
    tables
        ``visit_system, visit, visit_definition, visit_system_membership, visit_detector_region``, each ordered by its
        key, the visit first.
    """
    ordered = sorted(visits, key=lambda v: v.definition.id)
    return {
        "visit_system": [{"instrument": instrument, "id": s.id, "name": s.name} for s in sorted(systems)],
        "visit": [_visit(v) for v in ordered],
        "visit_definition": _definition(ordered),
        "visit_system_membership": [
            {"instrument": v.definition.instrument, "visit_system": system, "visit": v.definition.id}
            for v in ordered
            for system in sorted(v.definition.visit_systems)
        ],
        "visit_detector_region": [
            {
                "instrument": v.definition.instrument,
                "detector": detector,
                "visit": v.definition.id,
                "region": region.hex(),
            }
            for v in ordered
            for detector, region in zip(v.regions.detectors, v.regions.detector_regions, strict=True)
        ],
    }


def _visit(records: VisitRecords) -> Row:
    values = asdict(records.aggregate)
    row: Row = {
        "instrument": records.definition.instrument,
        "id": records.definition.id,
        "day_obs": values["day_obs"],
        "physical_filter": values["physical_filter"],
        "name": records.definition.name,
        "seq_num": values["seq_num"],
    }
    for name in ("exposure_time", "target_name", "observation_reason", "science_program", "azimuth", "zenith_angle"):
        row[name] = values[name]
    row["region"] = records.regions.visit.hex()
    row["timespan_begin"] = values["timespan_begin"]
    row["timespan_end"] = values["timespan_end"]
    return row


def _definition(visits: Sequence[VisitRecords]) -> list[Row]:
    return [
        {"instrument": v.definition.instrument, "exposure": exposure, "visit": v.definition.id}
        for v in visits
        for exposure in sorted(e.id for e in v.definition.exposures)
    ]
