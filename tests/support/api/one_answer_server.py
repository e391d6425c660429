"""A server on 127.0.0.1 that gives one answer to every request; with TLS, by a certificate that nobody trusts."""

from __future__ import annotations

import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

UNTRUSTED = """\
-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgGCSGgBPx6D5BOLZt
u4FYA7ZwKHY+vw8Diss+rUSxekGhRANCAAR0eqWka3LUqb5Iubz2YjXUmNiYN6HS
YZClaSB+kM7ZgVdICL0TNM46Zg8r0lIypHkSlWewGwBiGl9hLniooSUb
-----END PRIVATE KEY-----
-----BEGIN CERTIFICATE-----
MIIBnDCCAUGgAwIBAgIUCen+u+lt73StbbxXNdUraHdoAFgwCgYIKoZIzj0EAwIw
FDESMBAGA1UEAwwJbG9jYWxob3N0MCAXDTI2MTIwMTA0NDAwOFoYDzIxMjYxMTA3
MDQ0MDA4WjAUMRIwEAYDVQQDDAlsb2NhbGhvc3QwWTATBgcqhkjOPQIBBggqhkjO
PQMBBwNCAAR0eqWka3LUqb5Iubz2YjXUmNiYN6HSYZClaSB+kM7ZgVdICL0TNM46
Zg8r0lIypHkSlWewGwBiGl9hLniooSUbo28wbTAdBgNVHQ4EFgQU9RtlUQQGhmBE
gxUau3vzL6xX0KYwHwYDVR0jBBgwFoAU9RtlUQQGhmBEgxUau3vzL6xX0KYwDwYD
VR0TAQH/BAUwAwEB/zAaBgNVHREEEzARhwR/AAABgglsb2NhbGhvc3QwCgYIKoZI
zj0EAwIDSQAwRgIhAK0jLasKv5d+1yV75JfKqUWmXNdcN/EEqwXfNXoj+19WAiEA
+dW0bZsnWLs2b4UrCzlAvk+15vKGoIbLxXFkmKvdeJo=
-----END CERTIFICATE-----
"""
"""A key that is made for these tests alone, and its certificate, which it signed itself, until 2126."""


@contextmanager
def one_answer_server(status: int, *, ahead: float = 0.0, content_type: str = "", tls: bool = False) -> Iterator[Any]:
    """Yield a server: its address is ``url``, its requests (method, path, headers, body) are in ``received``.

    Args:
        status: Status of the answer.
        ahead: Seconds by which its ``Date`` is ahead of the clock.
        content_type: Content type of the answer.
        tls: Whether it speaks TLS.
    """

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"] or 0))
            server.received.append((self.command, self.path, dict(self.headers), body))  # type: ignore[attr-defined]
            self.send_response_only(status)
            self.send_header("date", formatdate(time.time() + ahead, usegmt=True))
            self.send_header("content-length", "2")
            if content_type:
                self.send_header("content-type", content_type)
            self.end_headers()
            self.wfile.write(b"{}")

        def log_message(self, format: str, *args: Any) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, request: Any, client_address: Any) -> None:
            pass  # a client that does not trust the certificate hangs up

    server = Server(("127.0.0.1", 0), Handler)
    server.received = []  # type: ignore[attr-defined]
    server.url = f"{'https' if tls else 'http'}://127.0.0.1:{server.server_port}"  # type: ignore[attr-defined]
    if tls:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        with TemporaryDirectory() as folder:
            file = Path(folder, "both.pem")
            file.write_text(UNTRUSTED)
            context.load_cert_chain(file)
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
