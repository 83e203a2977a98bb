"""Why a server refuses a connection: by SQLSTATE, in whatever language; libpq shows that in its trace alone."""

import os
import re
import select
from time import monotonic

from psycopg import pq

_STATE = re.compile(rb'ErrorResponse\t.* C "([0-9A-Z]{5})"')
_MOST_BYTES = 65_536


def refusing_states(conninfo: str, *, timeout_s: float) -> list[str]:
    """Connect once more, and return the SQLSTATE of each server that refuses; empty where none answers.

    Parameters
    ----------
    conninfo
        Of libpq, complete.
    timeout_s
        For all of it.
    """
    if not hasattr(os, "memfd_create"):
        return []  # only Linux can keep the trace, which may hold a password, out of every file system
    trace = os.memfd_create("libpq trace")
    try:
        connection = pq.PGconn.connect_start(conninfo.encode())
        try:
            connection.trace(trace)
            _poll(connection, monotonic() + timeout_s)
            connection.untrace()
        finally:
            connection.finish()
        return [state.decode() for state in _STATE.findall(os.pread(trace, _MOST_BYTES, 0))]
    finally:
        os.close(trace)


def _poll(connection: pq.abc.PGconn, end_s: float) -> None:
    while (left_s := end_s - monotonic()) > 0:
        status = connection.connect_poll()
        if status == pq.PollingStatus.READING:
            select.select([connection.socket], [], [], left_s)
        elif status == pq.PollingStatus.WRITING:
            select.select([], [connection.socket], [], left_s)
        else:
            return
