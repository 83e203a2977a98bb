"""A network of some length: a process that passes bytes on after half the round trip, and no slower than they come.

    python -m tests.support.delay_line 127.0.0.1 5432 12.0

prints the port of 127.0.0.1 on which it listens, and ends with its standard input.
"""

import asyncio
import contextlib
import subprocess
import sys
from collections.abc import Iterator

_CHUNK = 1 << 20


@contextlib.contextmanager
def delayed(host: str, port: int, round_trip_ms: float) -> Iterator[int]:
    """Give the port of a delay line to a server, which stands for the length of the block."""
    command = [sys.executable, "-m", "tests.support.delay_line", host, str(port), str(round_trip_ms)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            yield int(process.stdout.readline())
        finally:
            process.stdin.close()
            process.wait(10)


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, delay_s: float) -> None:
    """Pass one direction on: what was read at a time is written so long after it."""
    loop = asyncio.get_running_loop()
    line: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()

    async def deliver() -> None:
        while True:
            due_s, content = await line.get()
            await asyncio.sleep(max(due_s - loop.time(), 0))
            if not content:
                writer.close()
                return
            writer.write(content)

    delivery = asyncio.create_task(deliver())
    content = b"begin"
    while content:
        try:
            content = await reader.read(_CHUNK)
        except OSError:
            content = b""
        line.put_nowait((loop.time() + delay_s, content))
    await delivery


async def _serve(host: str, port: int, round_trip_ms: float) -> None:
    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there_reader, there_writer = await asyncio.open_connection(host, port, limit=_CHUNK)
        delay_s = round_trip_ms / 2000
        await asyncio.gather(
            _pass_on(reader, there_writer, delay_s), _pass_on(there_reader, writer, delay_s), return_exceptions=True
        )

    server = await asyncio.start_server(connected, "127.0.0.1", 0, limit=_CHUNK)
    print(server.sockets[0].getsockname()[1], flush=True)  # noqa: T201 -- its answer
    async with server:
        await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(_serve(sys.argv[1], int(sys.argv[2]), float(sys.argv[3])))
