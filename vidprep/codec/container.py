"""Opening containers: one local file and nothing else, with errors that a person can act on."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import av
from av.container import InputContainer
from av.stream import Disposition

from vidprep.codec.damage import Damage, is_of_machine, refusal
from vidprep.codec.pictures import packet_seconds, seconds_of
from vidprep.errors import DecodeError

CONTAINERS = (
    "mov,mp4,m4a,3gp,3g2,mj2,avi,matroska,webm,mpeg,mpegts,mpegvideo,m4v,h264,hevc,asf,flv,ogg,nut,mxf,dv,gif,rm,"
    "ivf,obu,swf,vob,wtv,nsv,yuv4mpegpipe,amr,wav,mp3,flac,aac"
)
"""Demuxers that read one file and nothing else: no playlists, scripts or image patterns."""

# AVFMT_NOTIMESTAMPS (raw streams: times after a seek count from zero), AVFMT_GENERIC_INDEX and AVFMT_TS_DISCONT
# (MPEG streams: a seek ends anywhere, so that the frames up to the next I-frame would be lost)
_NO_INDEX = 0x80 | 0x100 | 0x200
_HEAD_BYTES = 4096


@contextmanager
def open_container(
    source: Path | IO[bytes], name: str, container_format: str | None = None
) -> Iterator[InputContainer]:
    """Open a file or a seekable stream for reading; DecodeError says what is wrong with it."""
    if isinstance(source, Path):
        _check_file(source)
        file: str | IO[bytes] = f"file:{source}"
    else:
        source.seek(0)
        file = source
    options = {"format_whitelist": CONTAINERS, "protocol_whitelist": "file"}
    with decoding(name):
        container = av.open(
            file, mode="r", format=container_format, container_options=options, metadata_errors="replace"
        )
    with container:
        yield container


def video_stream(container: InputContainer, name: str) -> av.VideoStream:
    """Return the first video stream that can be decoded and is no cover picture."""
    for stream in container.streams.video:
        if stream.codec_context is not None and not stream.disposition & Disposition.attached_pic:
            return stream
    raise DecodeError(
        f"num_video_streams=0 in {name}: it holds no video that can be decoded; remove it from the dataset"
    )


def has_index(container: InputContainer) -> bool:
    """Tell whether the container knows where its key frames are, so that a seek ends at one."""
    return not container.format.flags & _NO_INDEX


def measure_seconds(container: InputContainer, stream: av.VideoStream, name: str, at_most: float) -> float:
    """Return when the last packet ends, by reading all of them, or up to ``at_most``; 0.0 without timestamps."""
    end = 0.0
    for packet in Damage(name, keep=True).each(container.demux(stream)):  # damage shows when all is decoded
        duration = seconds_of(packet.duration, packet.time_base) or 0.0
        begin = packet_seconds(packet)
        end = end + duration if begin is None else max(end, begin + duration)  # a raw stream has no timestamps
        if end > at_most:
            break
    return end


def seek(container: InputContainer, seconds: float) -> None:
    """Go to a key frame at or before a time; a container without an index stays at its start."""
    if not has_index(container):
        return
    try:
        container.seek(max(round(seconds * av.time_base), 0), backward=True)
    except av.FFmpegError:
        return


@contextmanager
def decoding(name: str) -> Iterator[None]:
    """Turn FFmpeg's errors about the input into DecodeError; those about the machine pass."""
    try:
        yield
    except av.FFmpegError as error:
        if is_of_machine(error):
            raise
        raise refusal(name, error) from None


def _check_file(path: Path) -> None:
    try:
        status = path.stat()
        if not stat.S_ISFIFO(status.st_mode):  # opening a pipe that nobody writes to would wait for ever
            path.open("rb").close()
    except OSError as error:
        target = f" -> {path.readlink()}" if path.is_symlink() else ""
        raise DecodeError(f"{path}{target}: {error.strerror}; the file must exist and be readable") from error
    if not stat.S_ISREG(status.st_mode):
        raise DecodeError(f"{path}: not a regular file; give a video file")
    if status.st_size == 0:
        raise DecodeError(f"size_bytes=0 of {path}: an empty file holds no video; get it anew or remove it")
    with path.open("rb") as file:
        promised = _matroska_bytes(file.read(_HEAD_BYTES))
    if status.st_size < promised:  # the demuxer ends at the cut as if that were the end
        raise DecodeError(
            f"size_bytes={status.st_size} of {path}: its header promises {promised}; the file is cut, get it anew"
        )


def _matroska_bytes(head: bytes) -> int:
    """Return how long a Matroska or WebM file says that it is; 0 if it is none or leaves it open."""
    place = 0
    for name in (b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67"):  # the EBML header, then the segment: all the rest
        if not head.startswith(name, place) or not any(head[place + 4 : place + 5]):
            return 0
        size_at = place + 4
        width = 9 - head[size_at].bit_length()  # RFC 8794, section 4: the leading zeros give the number's width
        size = int.from_bytes(head[size_at : size_at + width]) & ((1 << 7 * width) - 1)
        if size == (1 << 7 * width) - 1:
            return 0
        place = size_at + width + size
    return place
