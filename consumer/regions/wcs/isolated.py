"""Headers are hostile input: wcslib reads them in a child process, whose death harms nobody.

wcslib overruns its heap on some ``WAT`` text (TNX, ZPX) and takes its process with it, or leaves it with a heap that
breaks at a later header. So headers with such text are read in a process of their own, forked from the child, and any
other that the child dies of is tried once more like that: what dies alone is at fault, and its neighbours are not.

The child is kept warm: the first header costs its start, about a second, and any other about a millisecond more
than reading it here. It ends when this process does, however that ends.
"""

import os
import resource
import signal
from contextlib import suppress
from multiprocessing.connection import Pipe
from threading import Lock
from typing import cast

from consumer.errors import TransientError
from consumer.process import NOT_ITS_FAULT, ChildDiedError, ChildProcess, serve
from consumer.regions.camera.geometry import Floats

_ANSWER_S = 10.0
"""For so long an answer is waited for, which takes milliseconds: the machine may be busy."""
_CPU_S = 2
"""What a header may cost that is read alone."""
_CHECKED_HEAP = {"LD_PRELOAD": "libc_malloc_debug.so.0", "MALLOC_CHECK_": "3"}
"""Where the C library can look after its heap, a header that breaks it is found out always, and not by chance."""
_BROKEN = "Internal error in wcslib"
_MODULE = "consumer.regions.wcs.isolated"


class IsolatedWcs:
    """Asks the child; can be shared between threads."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._child = ChildProcess(_MODULE, _CHECKED_HEAP)

    def icrs_vectors(self, cards: str, pixels: Floats) -> Floats:
        """Do as `consumer.regions.wcs.astropy_wcs.icrs_vectors`, and survive it.

        Raises
        ------
        ValueError
            If the cards are of no use, or wcslib dies of them.
        TransientError
            If the child was ended from outside, or does not answer: ask again.
        """
        with self._lock:
            alone = "WAT" in cards
            answer = self._ask(cards, pixels, alone=alone)
            if answer is None and not alone:
                answer = self._ask(cards, pixels, alone=True)
        if answer is None:
            raise TransientError("the process that reads headers does not answer")
        if isinstance(answer, int) and answer in NOT_ITS_FAULT:
            raise TransientError(f"the process that reads headers was ended by {signal.Signals(answer).name}")
        # Whether it notices that its heap is broken or dies of it is chance.
        if isinstance(answer, int) or (isinstance(answer, str) and _BROKEN in answer):
            raise ValueError("wcslib breaks on its cards: it is not safe to read them")
        if isinstance(answer, str):
            raise ValueError(answer)  # noqa: TRY004 - the text of an error that was raised there
        return answer

    def _ask(self, cards: str, pixels: Floats, *, alone: bool) -> Floats | str | int | None:
        """Return the vectors, the text of an error, the signal that ended the reading, or None without an answer."""
        try:
            return cast("Floats | str | int", self._child.ask((cards, pixels, alone), timeout_s=_ANSWER_S))
        except ChildDiedError:
            return None


ISOLATED = IsolatedWcs()
"""The child of this process."""


def _serve() -> None:
    """Answer until the other end is gone."""
    # Only the child needs astropy's WCS.
    from consumer.regions.wcs.astropy_wcs import icrs_vectors  # noqa: PLC0415

    def answer(cards: str, pixels: Floats) -> Floats | str:
        try:
            return icrs_vectors(cards, pixels)
        except Exception as error:  # noqa: BLE001 - whatever a header makes astropy raise is its fault
            return str(error) or type(error).__name__

    def answer_alone(cards: str, pixels: Floats) -> Floats | str | int:
        reader, writer = Pipe(duplex=False)
        if not (child := os.fork()):
            resource.setrlimit(resource.RLIMIT_CPU, (_CPU_S, _CPU_S))
            writer.send(answer(cards, pixels))
            os._exit(0)
        writer.close()
        with reader, suppress(EOFError):
            found: Floats | str = reader.recv()
        # A heap that is broken may show itself only when the answer is there and freed.
        _, status = os.waitpid(child, 0)
        return os.WTERMSIG(status) if status else found

    def answer_question(question: object) -> object:
        cards, pixels, alone = cast("tuple[str, Floats, bool]", question)
        return (answer_alone if alone else answer)(cards, pixels)

    serve(answer_question)


if __name__ == "__main__":
    _serve()
