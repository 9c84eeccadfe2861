"""A web server of a folder, with range requests and, on demand, with faults."""

import re
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote


class Handler(BaseHTTPRequestHandler):
    """Answers as a good server does, unless the server has a fault for the file."""

    protocol_version = "HTTP/1.1"  # connections are kept
    disable_nagle_algorithm = True  # an answer is two writes
    server: "Server"

    def do_GET(self) -> None:
        path, _, query = self.path.partition("?")
        name = unquote(path).removeprefix("/data/shards/")
        self.server.asked.append((name, self.headers.get("Range"), query))
        fault = self.server.faults.get(name)
        if fault is None or not fault(self):
            self.answer(name)

    def answer(self, name: str) -> None:
        file = self.server.folder / name
        if not self.path.startswith("/data/shards/") or not file.is_file():
            self.reply(404, b"no such file")
            return
        data = file.read_bytes()
        wanted = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range") or "")
        if wanted is None:
            self.reply(200, data)
        elif int(wanted[1]) >= len(data):
            self.reply(416, b"")
        else:
            first, last = int(wanted[1]), min(int(wanted[2]), len(data) - 1)
            self.reply(206, data[first : last + 1], **{"Content-Range": f"bytes {first}-{last}/{len(data)}"})

    def reply(self, status: int, data: bytes, **headers: str) -> bool:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(data)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)
        return True

    def setup(self) -> None:
        super().setup()
        self.server.num_connections += 1

    def log_message(self, *arguments: object) -> None:
        pass


class Server(ThreadingHTTPServer):
    """The server, with what it was asked for."""

    daemon_threads = True

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.folder = folder
        self.url = f"http://127.0.0.1:{self.server_address[1]}/data/shards"
        self.asked: list[tuple[str, str | None, str]] = []
        self.faults: dict[str, Callable[[Handler], object]] = {}
        self.num_connections = 0
        self.stop = threading.Event()

    def handle_error(self, request: object, client_address: object) -> None:
        pass  # clients that hang up are part of the tests


@contextmanager
def serving(folder: Path) -> Iterator[Server]:
    server = Server(folder)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        server.stop.set()
        server.shutdown()
        thread.join()
        server.server_close()


def promise(handler: Handler) -> None:
    """Begin to answer with the part that is asked for."""
    handler.send_response(206)
    first, last = re.findall(r"\d+", handler.headers["Range"])
    handler.send_header("Content-Length", str(int(last) - int(first) + 1))
    handler.send_header("Content-Range", f"bytes {first}-{last}/*")
    handler.end_headers()


def stalls(handler: Handler) -> bool:
    """Promise a part, send half of it, and then nothing."""
    promise(handler)
    handler.wfile.write(bytes(256))
    handler.server.stop.wait()
    handler.close_connection = True
    return True


def trickles(handler: Handler) -> bool:
    """Send a few bytes now and then."""
    promise(handler)
    while not handler.server.stop.wait(0.02):
        handler.wfile.write(bytes(1))
    handler.close_connection = True
    return True


def hangs_up(handler: Handler) -> bool:
    """Close the connection in the middle of an answer."""
    promise(handler)
    handler.wfile.write(bytes(256))
    handler.wfile.flush()
    handler.connection.shutdown(socket.SHUT_RDWR)
    handler.close_connection = True
    return True


def times(number: int, fault: Callable[[Handler], object]) -> Callable[[Handler], object]:
    """Have a fault some times, then none."""
    left = [number]

    def sometimes(handler: Handler) -> object:
        left[0] -= 1
        return left[0] >= 0 and fault(handler)

    return sometimes
