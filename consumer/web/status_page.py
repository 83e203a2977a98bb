"""The status page: plain HTML, nothing loaded from elsewhere, everything escaped."""

from datetime import datetime
from html import escape

from consumer.web.health import Health, ServiceStatus

_STYLE = """
body{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:60rem;padding:0 1rem;color:#1b1f24;background:#fff}
table{border-collapse:collapse;margin:.5rem 0 1.5rem}th,td{text-align:left;padding:.2rem 1rem .2rem 0}
td.number,th.number{text-align:right;font-variant-numeric:tabular-nums}th{border-bottom:1px solid #999}
.bad{color:#a40000}h1{font-size:1.4rem}h2{font-size:1.1rem}
@media(prefers-color-scheme:dark){body{background:#14171a;color:#dde1e5}.bad{color:#ff8a80}a{color:#8ab4f8}}
""".strip()


def status_page(status: ServiceStatus, alive: Health, ready: Health) -> str:
    """Return the page as HTML."""
    problems = "".join(
        f'<li class="bad">{escape(what)}: {escape(reason)}</li>'
        for what, health in (("not alive", alive), ("not ready", ready))
        if not health.ok
        for reason in (health.reasons or ("no reason given",))
    )
    last = "none since the start" if status.last_visit is None else escape(status.last_visit)
    if status.last_visit_at is not None:
        last += f" at {_time(status.last_visit_at)}"
    facts = [
        ("State", escape(status.state)),
        ("Version", escape(status.version)),
        ("Started", _time(status.started_at)),
        ("Last visit", last),
        *((escape(name.capitalize()), f"{count:,}") for name, count in status.counts.items()),
    ]
    return "\n".join(
        [
            "<!doctype html>",
            '<html lang="en"><head><meta charset="utf-8"><title>Visit consumer</title>',
            f'<meta name="viewport" content="width=device-width"><style>{_STYLE}</style></head><body>',
            "<h1>Visit consumer</h1>",
            f"<ul>{problems}</ul>" if problems else "<p>Alive and ready.</p>",
            "<table>",
            *(f"<tr><th scope=row>{name}</th><td>{value}</td></tr>" for name, value in facts),
            "</table>",
            "<h2>Partitions</h2>",
            *_partitions(status),
            '<p><a href="/metrics">metrics</a> <a href="/healthz">healthz</a> <a href="/readyz">readyz</a></p>',
            "</body></html>",
            "",
        ]
    )


def _partitions(status: ServiceStatus) -> list[str]:
    """Return the lines of the partitions' table."""
    if not status.partitions:
        return ["<p>None assigned to this replica.</p>"]
    head = (
        "<table><tr><th>Topic</th><th class=number>Partition</th><th>State</th><th class=number>Position</th>"
        "<th class=number>Lag</th><th class=number>Open groups</th><th></th></tr>"
    )
    lines = [head]
    for each in sorted(status.partitions, key=lambda p: p.partition):
        mark = "" if each.state == "reading" else ' class="bad"'
        lines.append(
            f"<tr><td>{escape(each.partition.topic)}</td><td class=number>{each.partition.partition}</td>"
            f"<td{mark}>{escape(each.state)}</td><td class=number>{_number(each.position)}</td>"
            f"<td class=number>{_number(each.lag)}</td><td class=number>{each.open_groups:,}</td>"
            f"<td>{escape(each.detail)}</td></tr>"
        )
    return [*lines, "</table>"]


def _number(value: int | None) -> str:
    return "unknown" if value is None else f"{value:,}"


def _time(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S} UTC"
