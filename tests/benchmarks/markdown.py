"""The figures of a run as Markdown, for a README: one table for each benchmark."""

from collections.abc import Mapping, Sequence
from typing import Any

Row = Mapping[str, Any]


def document(name: str, results: Mapping[str, Any]) -> str:
    """Write all tables of a run; ``machine`` comes as a line."""
    parts = [f"# Benchmarks, run `{name}`\n", _machine(results["machine"])]
    for benchmark, figures in results.items():
        if benchmark == "machine":
            continue
        plain = {key: value for key, value in figures.items() if not isinstance(value, list)}
        parts.append(f"## {_words(benchmark)}\n")
        parts.append(_table([{"figure": _words(key), "value": value} for key, value in plain.items()]))
        parts += [
            f"{_words(key).capitalize()}:\n\n{_table(value)}"
            for key, value in figures.items()
            if isinstance(value, list) and key != "rounds"
        ]
    return "\n".join(parts)


def _machine(machine: Row) -> str:
    return (
        f"{machine['cores']} cores ({machine['cpu']}), {machine['memory_gb']} GB; {machine['system']}, Python "
        f"{machine['python']}, Apache Kafka {machine['kafka']}, librdkafka {machine['librdkafka']}, PostgreSQL "
        f"{machine['postgresql']} with its default durability; broker, database and consumer on this one machine. "
        f"Commit {machine['commit']}, {machine['at']}; load of other work before: {machine['load_before']}.\n"
    )


def _table(rows: Sequence[Row]) -> str:
    heads = [_words(key) for key in rows[0]]
    right = ["---" if isinstance(value, str) else "---:" for value in rows[0].values()]
    lines = [heads, right, *([_text(value) for value in row.values()] for row in rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _words(name: str) -> str:
    return name.replace("_", " ")


def _text(value: object) -> str:
    return f"{value:,}" if isinstance(value, int | float) and not isinstance(value, bool) else str(value)
