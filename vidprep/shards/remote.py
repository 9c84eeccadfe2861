"""Shards behind a web server: whole small files, and parts of tars by range requests."""

from __future__ import annotations

import http.client
import os
import re
import threading
import time
from urllib.parse import quote, urljoin, urlsplit

from vidprep.errors import RemoteError, ShardError, UsageError

_WAITS_SECONDS = (0.0, 1.0, 4.0)  # before each further try; a connection that was kept may just be closed
_MAX_REDIRECTS = 5
_PIECE_BYTES = 1 << 16
_REDIRECTS = (301, 302, 303, 307, 308)
_AGAIN = (408, 429, 500, 502, 503, 504)
_CONNECTIONS = {"http": http.client.HTTPConnection, "https": http.client.HTTPSConnection}


class HttpFolder:
    """A folder of shards behind an ``http://`` or ``https://`` address; connections are kept, one a thread.

    Parameters
    ----------
    url : str
        The address of the folder, as a browser takes it; a query (a token) is passed on with each request.
    timeout_seconds : float
        How long the server may send nothing, and how long a megabyte may take.
    """

    def __init__(self, url: str, timeout_seconds: float) -> None:
        parts = urlsplit(url)
        if not parts.hostname or parts.username or parts.fragment:
            raise UsageError(f"root={url}: must be http://HOST/FOLDER or https://HOST/FOLDER, without a user; mend it")
        self.url, self.timeout_seconds = url, timeout_seconds
        self._folder = parts._replace(path=parts.path.rstrip("/"))
        self._connections: dict[tuple[object, ...], http.client.HTTPConnection] = {}

    def __reduce__(self) -> tuple[type[HttpFolder], tuple[str, float]]:
        return type(self), (self.url, self.timeout_seconds)

    def __del__(self) -> None:
        for connection in getattr(self, "_connections", {}).values():
            connection.close()

    def path(self, name: str) -> str:
        """Return the file's address, without the query, which may be a secret."""
        return self._address(name).partition("?")[0]

    def read(self, name: str) -> bytes:
        """Return a whole file."""
        return self._read(name, None)

    def part(self, name: str, offset_bytes: int, num_bytes: int, total_bytes: int) -> bytes:
        """Return a part of a file, in one request for its bytes alone."""
        return self._read(name, (offset_bytes, num_bytes, total_bytes))

    def _address(self, name: str) -> str:
        return self._folder._replace(path=f"{self._folder.path}/{quote(name)}").geturl()

    def _read(self, name: str, part: tuple[int, int, int] | None) -> bytes:
        for wait_seconds in (*_WAITS_SECONDS, None):
            try:
                return self._try(name, part)
            except (OSError, http.client.HTTPException) as error:
                self._forget()
                if wait_seconds is None:
                    raise RemoteError(self._failure(name, error)) from error
                time.sleep(wait_seconds)
        raise AssertionError

    def _failure(self, name: str, error: Exception) -> str:
        reason = f"{type(error).__name__} {error}"
        if isinstance(error, TimeoutError):
            reason = f"the server sent nothing for timeout_seconds={self.timeout_seconds:g}, or next to nothing"
        tries = len(_WAITS_SECONDS) + 1
        return f"{self.path(name)}: {reason}, {tries} times; check the network and the server, or copy the shards here"

    def _try(self, name: str, part: tuple[int, int, int] | None) -> bytes:
        """Send one request, follow redirects, and check what comes."""
        headers = {} if part is None else {"Range": f"bytes={part[0]}-{part[0] + part[1] - 1}"}
        url = self._address(name)
        for _ in range(_MAX_REDIRECTS + 1):
            target = urlsplit(url)
            connection = self._connection(target.scheme, target.netloc)
            connection.request("GET", target._replace(scheme="", netloc="").geturl() or "/", headers=headers)
            response = connection.getresponse()
            if response.status not in _REDIRECTS:
                return self._content(name, response, part)
            response.read()
            url = urljoin(url, response.getheader("Location", ""))
        raise ShardError(f"{self.path(name)}: more than {_MAX_REDIRECTS} redirects; give the address that they lead to")

    def _content(self, name: str, response: http.client.HTTPResponse, part: tuple[int, int, int] | None) -> bytes:
        if response.status in _AGAIN:
            raise http.client.HTTPException(f"status={response.status} {response.reason}")
        if response.status == (200 if part is None else 206):
            if part is not None:
                self._check_range(name, response.getheader("Content-Range", ""), *part)
            data = self._body(response)
            if part is not None and len(data) != part[1]:
                raise http.client.IncompleteRead(data, part[1] - len(data))
            return data
        self._forget()  # what else the server sends is not waited for
        if response.status == 200:
            raise ShardError(
                f"{self.path(name)}: the server sends the whole file where a part is asked for; serve the shards with"
                " one that knows range requests, or copy them here"
            )
        if response.status == 416:
            raise ShardError(f"{self.path(name)}: shorter than the index says; run vidprep verify where it was made")
        raise ShardError(
            f"{self.path(name)}: status={response.status} {response.reason}; check that the address is that of a"
            " folder that vidprep extract wrote, and that it may be read"
        )

    def _body(self, response: http.client.HTTPResponse) -> bytes:
        """Read all that is sent; TimeoutError if it trickles: a megabyte may take ``timeout_seconds``."""
        data = bytearray()
        end = time.monotonic() + self.timeout_seconds
        while response.length != 0 and (piece := response.read1(_PIECE_BYTES)):
            data += piece
            if time.monotonic() > end + self.timeout_seconds * len(data) / 1e6:
                raise TimeoutError
        if response.length:
            raise http.client.IncompleteRead(bytes(data), response.length)
        response.read()  # now it is closed, and its connection may serve again
        return bytes(data)

    def _check_range(self, name: str, stated: str, offset_bytes: int, num_bytes: int, total_bytes: int) -> None:
        """Believe that a part is the right one of the right file: ``bytes 512-1023/4096``."""
        numbers = re.fullmatch(r"bytes (\d+)-(\d+)/(\d+|\*)", stated)
        wanted = (str(offset_bytes), str(offset_bytes + num_bytes - 1))
        if numbers is None or numbers.group(1, 2) != wanted or numbers[3] not in (str(total_bytes), "*"):
            self._forget()
            raise ShardError(
                f"{self.path(name)}: Content-Range={stated!r} is not bytes {'-'.join(wanted)} of the {total_bytes} that"
                " the index says; run vidprep verify where the shards were made, and copy them to the server anew"
            )

    def _connection(self, scheme: str, host: str) -> http.client.HTTPConnection:
        """Return this thread's connection to a host: one that was made before a fork belongs to the parent."""
        if scheme not in _CONNECTIONS:
            raise ShardError(f"{self.url}: leads to {scheme}://{host}; give an http:// or https:// address")
        place = (os.getpid(), threading.get_ident(), scheme, host)
        if place not in self._connections:
            self._connections[place] = _CONNECTIONS[scheme](host, timeout=self.timeout_seconds)
        return self._connections[place]

    def _forget(self) -> None:
        """Close this thread's connections."""
        own = (os.getpid(), threading.get_ident())
        for place in [place for place in self._connections if place[:2] == own]:
            self._connections.pop(place).close()
