"""An OAuth 2.0 token endpoint of the tests' own: client credentials in, signed tokens out.

It knows one grant and one key. Brokers check its tokens against `TokenEndpoint.jwks_file`. Sources: RFC 6749 section
4.4 (the grant), RFC 7519 (the token), RFC 7517 (the key set).
"""

import base64
import contextlib
import http.server
import json
import ssl
import threading
import time
import urllib.parse
from collections.abc import Iterator, Mapping
from http import HTTPStatus
from pathlib import Path
from types import TracebackType
from typing import ClassVar, Self

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from tests.support.certificates import Certificate

ISSUER = "https://identity.example.org"
AUDIENCE = "kafka"
_KEY_ID = "the only one"


class TokenEndpoint:
    """Listens on 127.0.0.1 with TLS. A context manager.

    Parameters
    ----------
    folder
        Where the key set goes.
    certificate
        Of the server.
    client, secret
        Of the one client that it knows.
    lifetime_s
        Of a token.

    Attributes
    ----------
    issued
        How many tokens there were.
    """

    def __init__(self, folder: Path, certificate: Certificate, client: str, secret: str, *, lifetime_s: int) -> None:
        self._key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self._known = (client, secret)
        self._refusing = False
        self._lifetime_s = lifetime_s
        self._lock = threading.Lock()
        self.issued = 0
        self.jwks_file = folder / "jwks.json"
        self.jwks_file.write_text(json.dumps({"keys": [self._public_key()]}))
        handler = type("Handler", (_Handler,), {"endpoint": self})
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate.both)
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True, do_handshake_on_connect=False)

    @property
    def url(self) -> str:
        """Where tokens are asked for."""
        return f"https://127.0.0.1:{self._server.server_port}/token"

    @contextlib.contextmanager
    def refusing(self) -> Iterator[None]:
        """Know no client for a while."""
        self._refusing = True
        try:
            yield
        finally:
            self._refusing = False

    def answer(self, form: Mapping[str, str], client: str, secret: str) -> tuple[HTTPStatus, dict[str, object]]:
        """Answer a request."""
        if (client, secret) != self._known or self._refusing:
            return HTTPStatus.UNAUTHORIZED, {"error": "invalid_client", "error_description": "unknown, or wrong secret"}
        if form.get("grant_type") != "client_credentials":
            return HTTPStatus.BAD_REQUEST, {"error": "unsupported_grant_type"}
        with self._lock:
            self.issued += 1
        token = self._token(client, form.get("scope", ""))
        return HTTPStatus.OK, {"access_token": token, "token_type": "Bearer", "expires_in": self._lifetime_s}

    def _token(self, client: str, scope: str) -> str:
        now = int(time.time())
        claims = {
            "iss": ISSUER,
            "aud": AUDIENCE,
            "sub": client,
            "scope": scope,
            "iat": now,
            "exp": now + self._lifetime_s,
        }
        signed = ".".join(_base64url(json.dumps(part).encode()) for part in ({"alg": "RS256", "kid": _KEY_ID}, claims))
        signature = self._key.sign(signed.encode(), padding.PKCS1v15(), hashes.SHA256())
        return f"{signed}.{_base64url(signature)}"

    def _public_key(self) -> dict[str, str]:
        numbers = self._key.public_key().public_numbers()
        return {
            "kty": "RSA",
            "use": "sig",
            "alg": "RS256",
            "kid": _KEY_ID,
            "n": _base64url(numbers.n.to_bytes(256, "big")),
            "e": _base64url(numbers.e.to_bytes(3, "big")),
        }

    def __enter__(self) -> Self:
        """Listen."""
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()


class _Handler(http.server.BaseHTTPRequestHandler):
    """``POST``: the client's credentials as HTTP basic authentication, the grant as a form."""

    endpoint: ClassVar[TokenEndpoint]
    timeout = 5

    def do_POST(self) -> None:
        """Give a token, or the reason why not."""
        form = urllib.parse.parse_qsl(self.rfile.read(int(self.headers["Content-Length"])).decode())
        credentials = base64.b64decode(self.headers.get("Authorization", "").removeprefix("Basic ")).decode()
        client, _, secret = credentials.partition(":")
        status, body = self.endpoint.answer(dict(form), client, secret)
        content = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - http.server's name
        """Say nothing: pytest's output is for results."""


def _base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")
