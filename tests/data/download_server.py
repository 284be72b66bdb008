"""An HTTP server on this machine that misbehaves on demand."""

import contextlib
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

BODY = bytes(range(256)) * 4096  # 1 MiB


class Server:
    """Serves `body` at every path; how it misbehaves is set by its attributes."""

    def __init__(self, body: bytes) -> None:
        self.body = body
        self.ranges = True  # honors Range
        self.shift = 0  # answers a range with one that begins so many bytes later
        self.breaks: list[int] = []  # of each answer to come: after how many bytes the connection ends
        self.statuses: list[int] = []  # of each answer to come: an error status instead
        self.hangs: list[int] = []  # of each answer to come: after how many bytes nothing comes any more
        self.length: int | None = None  # a Content-Length other than the true one; -1: none at all
        self.requests: list[str | None] = []  # the Range header of each request
        self.headers: list[dict[str, str]] = []
        self.done = threading.Event()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.answer(self)

            def log_message(self, *_: object) -> None:
                """Says nothing."""

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.http.serve_forever, kwargs={"poll_interval": 0.01})
        self.thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.http.server_port}/set.tar.gz"

    def close(self) -> None:
        self.done.set()
        self.http.shutdown()
        self.thread.join()
        self.http.server_close()

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        wanted = handler.headers.get("Range")
        self.requests.append(wanted)
        self.headers.append(dict(handler.headers.items()))
        if self.statuses and (status := self.statuses.pop(0)) != 200:
            handler.send_error(status)
            return
        start = int(wanted.removeprefix("bytes=").removesuffix("-")) if wanted and self.ranges else 0
        size = len(self.body)
        if start >= size:
            handler.send_response(416)
            handler.send_header("Content-Range", f"bytes */{size}")
            handler.end_headers()
            return
        content = self.body[start:]
        if wanted and self.ranges:
            first = start + self.shift
            handler.send_response(206)
            handler.send_header("Content-Range", f"bytes {first}-{size - 1}/{size}")
        else:
            handler.send_response(200)
        if self.length != -1:
            handler.send_header("Content-Length", str(self.length or len(content)))
        handler.end_headers()
        if self.breaks:
            content = content[: self.breaks.pop(0)]
        if self.hangs:
            content = content[: self.hangs.pop(0)]
            handler.wfile.write(content)
            handler.wfile.flush()
            self.done.wait(5)
            return
        with contextlib.suppress(OSError):  # the other side may have had enough
            handler.wfile.write(content)
