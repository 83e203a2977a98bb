"""The statements that make the ObsCore table of its columns: what migration 0012 has.

python -m deploy.reference.obscore_table
"""

from consumer.domain.obscore import COLUMNS, Column


def table_sql() -> str:
    """Write ``CREATE TABLE`` and a comment for each column."""
    columns = ",\n".join(map(_column, COLUMNS))
    comments = "".join(f"COMMENT ON COLUMN visit_obscore.{c.name} IS {_quoted(_described(c))};\n" for c in COLUMNS)
    end = "PRIMARY KEY (instrument_name, visit)\n) WITH (toast_tuple_target = 8160)"
    return f"CREATE TABLE visit_obscore (\n{columns},\n    {end};\n{comments}"


def view_sql() -> str:
    """Write the view of the public rows."""
    names = ", ".join(c.name for c in COLUMNS)
    return (
        f"CREATE VIEW visit_obscore_public AS\nSELECT {names}\nFROM visit_obscore\n"
        "WHERE obs_release_date IS NULL OR obs_release_date <= now() AT TIME ZONE 'UTC';\n"
    )


def _column(column: Column) -> str:
    default = "" if column.constant in {None, "NULL"} else f" DEFAULT {column.constant}"
    return f"    {column.name} {column.sql_type}{' NOT NULL' if column.not_null else ''}{default}"


def _described(column: Column) -> str:
    return column.text + (f" [{column.unit}]" if column.unit else "")


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


if __name__ == "__main__":
    print(table_sql())  # noqa: T201  # its output
    print(view_sql())  # noqa: T201  # the same
