"""Block vectors: exact and small. Dense and accumulated fields are rebuilt from them on load."""

from __future__ import annotations

import io
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vidprep.codec.blocks import BLOCK_DTYPE, dense_motion
from vidprep.codec.frame import Frame
from vidprep.codec.motion import accumulate_vectors
from vidprep.codec.video import Video
from vidprep.errors import ShardError, UnsupportedError
from vidprep.modalities.base import Entry, Modality, Settings, Span, is_stored, stored_shape
from vidprep.modalities.packed import is_packed, read_packed
from vidprep.reading import read_npz, readable

COLUMNS = {
    "source": "i1",
    "w": "u1",
    "h": "u1",
    "dst_x": "<i2",
    "dst_y": "<i2",
    "motion_x": "<i2",
    "motion_y": "<i2",
    "motion_scale": "u1",
}
"""Stored columns and their types; ``src`` follows: ``dst + trunc(motion / motion_scale)``."""
READ_COLUMNS = (*COLUMNS, "src_x", "src_y")
ZLIB_LEVEL = 6  # zipfile's own
_CHUNK_FRAMES = 64
_EPOCH = (1980, 1, 1, 0, 0, 0)


def extract(frame: Frame) -> NDArray[np.int16]:
    """Return a frame's block vectors as columns [shape=(10, N), dtype=int16], in the order of READ_COLUMNS."""
    return to_columns(frame.vectors)


def to_columns(blocks: NDArray[np.void]) -> NDArray[np.int16]:
    """Return block vectors [shape=(N,), dtype=BLOCK_DTYPE] as columns [shape=(10, N), dtype=int16]."""
    columns = np.empty((len(READ_COLUMNS), len(blocks)), np.int16)
    for row, name in zip(columns, READ_COLUMNS, strict=True):
        row[...] = blocks[name]
    return columns


def to_blocks(columns: NDArray[np.int16]) -> NDArray[np.void]:
    """Return columns [shape=(8, N)] as block vectors [shape=(N,), dtype=BLOCK_DTYPE]."""
    blocks = np.zeros(columns.shape[1], BLOCK_DTYPE)
    for row, name in zip(columns, COLUMNS, strict=True):
        blocks[name] = row
    blocks["src_x"], blocks["src_y"] = _sources(columns)
    return blocks


def encode(frames: Iterable[NDArray[np.int16]]) -> bytes:
    """Pack the columns of a video's frames [T times (10, N_t)] as npz: ``num_blocks`` (T,) and one array a column.

    Raises
    ------
    UnsupportedError
        If a vector's whole-pixel source is not its destination plus the truncated motion.
    """
    packer = Packer()
    for columns in frames:
        packer.add(columns)
    return packer.finish()


class Packer:
    """Packs columns frame by frame; what waits for the end is compressed, so that long videos take little memory."""

    def __init__(self) -> None:
        self.num_blocks: list[int] = []
        self._frames: list[NDArray[np.int16]] = []
        self._chunks: dict[str, list[bytes]] = {name: [] for name in COLUMNS}

    def add(self, columns: NDArray[np.int16]) -> None:
        """Take one frame's columns [shape=(10, N), dtype=int16]."""
        self.num_blocks.append(columns.shape[1])
        self._frames.append(columns)
        if len(self._frames) == _CHUNK_FRAMES:
            self._squeeze()

    def finish(self) -> bytes:
        """Return the npz, as ``np.savez_compressed`` lays it out, but without a clock."""
        self._squeeze()
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as archive:
            counts = np.array(self.num_blocks, "<i4")
            _write_member(archive, "num_blocks", counts.dtype, len(counts), [counts.tobytes()])
            for name, dtype in COLUMNS.items():
                chunks = map(zlib.decompress, self._chunks[name])
                _write_member(archive, name, np.dtype(dtype), sum(self.num_blocks), chunks)
        return buffer.getvalue()

    def _squeeze(self) -> None:
        if not self._frames:
            return
        *stored, source_x, source_y = np.concatenate(self._frames, axis=1)
        self._frames.clear()
        expected_x, expected_y = _sources(np.stack(stored))
        if not (np.array_equal(source_x, expected_x) and np.array_equal(source_y, expected_y)):
            raise UnsupportedError(
                "src != dst + trunc(motion / scale): this codec's vectors can't be stored; transcode it (--codec mpeg4)"
            )
        for row, (name, dtype) in zip(stored, COLUMNS.items(), strict=True):
            self._chunks[name].append(zlib.compress(row.astype(dtype).tobytes(), 1))


def _write_member(
    archive: zipfile.ZipFile, name: str, dtype: np.dtype[Any], length: int, chunks: Iterable[bytes]
) -> None:
    info = zipfile.ZipInfo(f"{name}.npy", _EPOCH)
    info.compress_type = zipfile.ZIP_DEFLATED
    with archive.open(info, "w") as member:
        header = {"descr": dtype.str, "fortran_order": False, "shape": (length,)}
        np.lib.format.write_array_header_1_0(member, header)
        for chunk in chunks:
            member.write(chunk)


@readable("motion.npz")
def decode(data: bytes) -> list[NDArray[np.void]]:
    """Return the block vectors of each frame [T times shape=(N_t,), dtype=BLOCK_DTYPE] from a ``motion.npz``.

    Raises
    ------
    ShardError
        If it is damaged.
    """
    arrays = read_npz(data, ("num_blocks", *COLUMNS), "motion.npz")
    counts = arrays.pop("num_blocks")
    lengths = {len(column) for column in arrays.values()}
    types = {name: column.dtype for name, column in arrays.items()}
    if (counts < 0).any() or lengths != {counts.sum()} or types != COLUMNS:
        raise ShardError(f"motion.npz: {counts.sum()} blocks in columns of {lengths}, {types}; run vidprep verify")
    columns = np.stack([column.astype(np.int16) for column in arrays.values()])
    ends = np.cumsum(counts)
    return np.split(to_blocks(columns), ends[:-1]) if len(ends) else []


def dense(blocks: Sequence[NDArray[np.void]], height: int, width: int) -> NDArray[np.int16]:
    """Return the MotionField of each frame [shape=(T, H, W, 2), dtype=int16]: x, y, pixels."""
    fields = np.empty((len(blocks), height, width, 2), np.int16)
    for field, vectors in zip(fields, blocks, strict=True):
        dense_motion(vectors, height, width, out=field)
    return fields


def accumulated(blocks: Sequence[NDArray[np.void]], picture_types: str, height: int, width: int) -> NDArray[np.int16]:
    """Return the accumulated motion of each frame [shape=(T, H, W, 2), dtype=int16]: x, y, pixels.

    Parameters
    ----------
    blocks : sequence of ndarray
        As :func:`decode` returns them.
    picture_types : str
        One letter a frame, as the json's ``picture_types``.
    height, width : int
        The json's size in pixels.
    """
    fields = np.empty((len(blocks), height, width, 2), np.int16)
    accumulate_vectors(blocks, picture_types, fields)
    return fields


def _sources(columns: NDArray[np.int16]) -> tuple[NDArray[np.int16], NDArray[np.int16]]:
    names = list(COLUMNS)
    scale = columns[names.index("motion_scale")]

    def source(axis: str) -> NDArray[np.int16]:
        motion = columns[names.index(f"motion_{axis}")]
        whole = np.sign(motion) * (np.abs(motion) // np.maximum(scale, 1))  # truncated toward zero, as C divides
        sources: NDArray[np.int16] = columns[names.index(f"dst_{axis}")] + whole
        return sources

    return source("x"), source("y")


class Motion(Modality):
    """Entry ``motion.npz``: the block vectors of all frames up to the last stored one."""

    name = "motion"

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self._packer = Packer()

    def add(self, frame: Frame, position: int | None) -> Iterator[Entry]:
        """Keep the vectors of a frame, stored or not: those of later frames build on them."""
        self._packer.add(extract(frame))
        yield from ()

    def finish(self, source: Video, span: Span) -> Iterator[Entry]:
        """Yield the vectors of the whole video."""
        yield "motion.npz", self._packer.finish()

    def facts(self) -> dict[str, Any]:
        """Return how the vectors are to be read."""
        return {"format": "npz", "form": "blocks", "num_blocks": sum(self._packer.num_blocks)}

    @staticmethod
    @readable("motion")
    def decode(entries: Mapping[str, bytes], facts: Mapping[str, Any]) -> NDArray[np.int16] | None:
        """Return the MotionField of each stored frame [shape=(T, H, W, 2), dtype=int16]: x, y, pixels."""
        if is_packed(entries):
            return read_packed(entries, facts, ["motion"])["motion"]
        if not is_stored("motion", facts, "motion.npz" in entries):
            return None
        blocks, stored = decode(entries["motion.npz"]), facts["frame_indices"]
        if not all(0 <= i < len(blocks) for i in stored):
            raise ShardError(f"frame_indices={stored}: motion.npz has {len(blocks)} frames; run vidprep verify")
        stored_shape(facts)
        return dense([blocks[i] for i in stored], facts["height"], facts["width"])
