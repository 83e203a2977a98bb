"""DEV SHIM"""

import click


@click.group()
def emit() -> None:
    """Emit."""


from consumer.commands.emit_live import *

for c in (watch, notifications, listen, scan, rejected):
    emit.add_command(c)
