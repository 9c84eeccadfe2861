"""One sample: the files of one video, as they stand in a tar."""

from __future__ import annotations

import tarfile
from typing import IO

from vidprep.errors import ShardError

BLOCK_BYTES = 512


class SampleWriter:
    """Writes the members of one sample to a file, without the tar's end.

    Headers carry no clock and no user, so the same entries give the same bytes.

    Parameters
    ----------
    file : binary file
        Where the members go.
    key : str
        The sample's key; no dots, ASCII.
    """

    def __init__(self, file: IO[bytes], key: str) -> None:
        if "." in key or not key.isascii() or not key:
            raise ShardError(f"key={key!r}: must be ASCII without dots; make keys with Row.key")
        self._file = file
        self._key = key
        self.num_bytes = 0
        self.bytes_by_kind: dict[str, int] = {}

    def add(self, entry: str, data: bytes) -> None:
        """Write one entry, such as ``rgb.000000.jpg``."""
        head = _header(f"{self._key}.{entry}", len(data))
        padding = -len(data) % BLOCK_BYTES
        self._file.write(head)
        self._file.write(data)
        self._file.write(bytes(padding))
        self.num_bytes += len(head) + len(data) + padding
        kind = entry.partition(".")[0]
        self.bytes_by_kind[kind] = self.bytes_by_kind.get(kind, 0) + len(data)


def _header(name: str, num_bytes: int) -> bytes:
    """Return a member's header: tarfile's own bytes, made from a template where the name fits into one."""
    if len(name) > _NAME_BYTES or num_bytes > _MAX_SIZE:
        member = tarfile.TarInfo(name)
        member.size = num_bytes
        return member.tobuf(tarfile.PAX_FORMAT)
    fields = name.encode().ljust(_NAME_BYTES, b"\0") + _MIDDLE[0] + b"%011o\0" % num_bytes + _MIDDLE[1]
    checksum = sum(fields) + _END_SUM
    return b"".join((fields, b"%06o\0 " % checksum, _END))


def _template() -> bytes:
    return tarfile.TarInfo("").tobuf(tarfile.PAX_FORMAT)


_NAME_BYTES, _MAX_SIZE = 100, 0o77777777777
_MIDDLE = (_template()[100:124], _template()[136:148])  # mode and owners; the time
_END = _template()[156:]
_END_SUM = sum(_END) + 8 * ord(" ")  # the checksum counts itself as blanks
