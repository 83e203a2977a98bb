"""The description of the ObsCore table, read by Felis."""

from typing import Any

import yaml
from felis.datamodel import Schema

from consumer.domain.obscore import COLUMNS
from consumer.vo.felis import felis_description


def test_felis_accepts_the_description() -> None:
    text = felis_description("visits", "visit_obscore_public")
    context = {"check_description": True, "check_tap_principal": True, "check_tap_table_indexes": False}
    schema: Any = Schema.model_validate(yaml.safe_load(text), context=context)
    (table,) = schema.tables
    assert [column.name for column in table.columns] == [column.name for column in COLUMNS]
    for described, column in zip(table.columns, COLUMNS, strict=True):
        assert described.ivoa_ucd == column.ucd
        assert (described.ivoa_unit or "") == column.unit
        assert described.nullable != column.not_null
        assert described.tap_principal == column.mandatory
        assert (described.votable_utype or "").removeprefix("obscore:") == column.utype
