"""Reading bytes that may be damaged: what goes wrong becomes a ShardError, and no header is believed.

The one guard of all that reads shards. Zip, JSON, NumPy and picture libraries raise anything on damaged input.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vidprep.errors import ShardError, VidprepError

_CURE = "not as vidprep writes it; run vidprep verify, or extract anew"


@contextmanager
def readable(what: str, kind: type[VidprepError] = ShardError, cure: str = _CURE) -> Iterator[None]:
    """Turn any exception of the body, or of a decorated function, into a ShardError that names ``what``.

    Raises
    ------
    ShardError
        Or another ``kind``, for all but VidprepErrors, which pass.
    """
    try:
        yield
    except VidprepError:
        raise
    except Exception as error:
        reason = " ".join(str(error).split())
        raise kind(f"{what}: {type(error).__name__} {reason}: {cure}") from error


def read_npy(data: bytes, what: str) -> NDArray[Any]:
    """Read an array from the bytes of an npy file; ShardError unless they are as many as its header says."""
    with readable(what):
        file = io.BytesIO(data)
        version = np.lib.format.read_magic(file)
        read_header = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
        shape, is_fortran, dtype = read_header[version](file)
        body = memoryview(data)[file.tell() :]
        if any(length < 0 for length in shape):
            raise ShardError(f"{what}: shape={shape}: no length may be negative; run vidprep verify, or extract anew")
        array = np.frombuffer(body, dtype)  # of objects it makes none
        return array.reshape(shape, order="F" if is_fortran else "C").copy()


def read_npz(data: bytes, names: Iterable[str], what: str) -> dict[str, NDArray[Any]]:
    """Read arrays by name from the bytes of an npz file; ShardError if one is missing or damaged."""
    with readable(what), zipfile.ZipFile(io.BytesIO(data)) as archive:
        return {name: read_npy(archive.read(f"{name}.npy"), what) for name in names}
