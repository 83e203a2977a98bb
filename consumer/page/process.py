"""The composition root of the page: sessions, a watcher, a port."""

import threading
from contextlib import ExitStack
from time import monotonic

from consumer.config import Settings
from consumer.logs import get_logger
from consumer.page.answering import Answers, Sessions
from consumer.page.api import api
from consumer.page.app import bundle_folder, page_app
from consumer.page.broadcast import Broadcast
from consumer.page.watch import Watcher
from consumer.process import stops_on_signals, tune_interpreter
from consumer.web import Health, HttpServer

_STALLED_AFTER_S = 60.0
_OTHER_CONNECTIONS = 256
"""Besides those of open pages: requests for answers and files."""

_log = get_logger(__name__)


class PageProcess:
    """One process that serves the page.

    Parameters
    ----------
    settings
        Validated.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._broadcast = Broadcast()
        self._watcher = Watcher(settings.database, self._broadcast)
        self._stopping = threading.Event()

    def run(self) -> None:
        """Serve until SIGTERM or SIGINT.

        Raises
        ------
        ConfigurationError
            When the address cannot be listened on.
        """
        own = self._settings.page
        with ExitStack() as stack:
            sessions = Sessions(self._settings.database, own.sessions)
            stack.callback(sessions.close)
            shared = Answers(sessions, lambda: self._watcher.looks)
            app = page_app(api(self._settings, sessions, shared, self._broadcast), self, bundle_folder())
            server = HttpServer(
                own.host,
                own.port,
                app,
                setting="page.host, page.port",
                max_connections=own.max_clients + _OTHER_CONNECTIONS,
            )
            stack.callback(server.stop)
            stack.callback(self._watcher.close)
            timeout_s = self._settings.shutdown.timeout_s
            stack.enter_context(stops_on_signals(self._stopping.set, timeout_s=timeout_s, log=_log))
            tune_interpreter()
            server.start()
            self._watcher.run(self._stopping.is_set)

    def alive(self) -> Health:
        """Whether the watcher has turned recently."""
        silent_s = monotonic() - self._watcher.turned_at_s
        ok = silent_s < _STALLED_AFTER_S
        return Health(ok=ok, reasons=() if ok else (f"the watcher has not turned for {silent_s:.0f} s",))

    def ready(self) -> Health:
        """As `alive`: while the database is away, the page says so, and nothing else would."""
        return self.alive()
