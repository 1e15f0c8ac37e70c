"""A folder behind HTTP, every answer of which comes so late: `python benchmarks/server.py FOLDER MILLISECONDS`.

It prints its port, knows ranges as a store's shards are read by, and serves until it is killed.
"""

import io
import re
import sys
import time
from contextlib import suppress
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, BinaryIO


class Late(SimpleHTTPRequestHandler):
    """Files, pieces of files and lists of folders, after a while; a connection serves many requests."""

    protocol_version = "HTTP/1.1"
    # Else the system holds an answer back behind its head for 40 ms more.
    disable_nagle_algorithm = True

    def __init__(self, *args: Any, seconds: float, **options: Any) -> None:
        self._seconds = seconds
        super().__init__(*args, **options)

    def send_head(self) -> BinaryIO | None:
        time.sleep(self._seconds)
        path = Path(self.translate_path(self.path))
        wanted = re.fullmatch(r"bytes=(\d*)-(\d*)", self.headers.get("Range", ""))
        if wanted is None or not path.is_file():
            return super().send_head()
        size = path.stat().st_size
        first, last = wanted.groups()
        start = int(first) if first else max(0, size - int(last))
        stop = min(size, int(last) + 1) if first and last else size
        with path.open("rb") as file:
            file.seek(start)
            data = file.read(stop - start)
        self.send_response(206)
        self.send_header("Content-Range", f"bytes {start}-{stop - 1}/{size}")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        return io.BytesIO(data)

    def handle(self) -> None:
        with suppress(ConnectionError):  # a reader that has what it wants goes away
            super().handle()

    def log_message(self, *args: Any) -> None:
        """Nothing."""


if __name__ == "__main__":
    handler = partial(Late, directory=sys.argv[1], seconds=float(sys.argv[2]) / 1000)
    # Else the sixth connection of a moment is dropped, and made again a second later.
    ThreadingHTTPServer.request_queue_size = 128
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        print(server.server_port, flush=True)
        server.serve_forever()
