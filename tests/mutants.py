"""Damaged files by the thousand, the same ones each time: mutators of videos and of shards, for the fuzzing tests."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Iterator
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import numpy as np
from reference import busy_frames

from vidprep.codec.writer import write_video

Rng = np.random.Generator
Mutator = Callable[[bytes, Rng], bytes]
NUM_FRAMES, SIZE = 24, (64, 48)
HEAD_BYTES = 1024

# Bytes


def flip(data: bytes, rng: Rng, *, first: int = 0, last: int | None = None, at_most: int = 50) -> bytes:
    """Flip 1 to ``at_most`` bits between two places."""
    changed = bytearray(data)
    end = min(len(data) if last is None else last, len(data))
    for place in rng.integers(min(first, end - 1), end, int(rng.integers(1, at_most + 1))):
        changed[place] ^= 1 << int(rng.integers(8))
    return bytes(changed)


def flip_one(data: bytes, rng: Rng) -> bytes:
    return flip(data, rng, at_most=1)


def flip_body(data: bytes, rng: Rng) -> bytes:
    return flip(data, rng, first=HEAD_BYTES)


def flip_head(data: bytes, rng: Rng) -> bytes:
    return flip(data, rng, last=HEAD_BYTES, at_most=4)


def flip_tail(data: bytes, rng: Rng) -> bytes:
    return flip(data, rng, first=max(len(data) - HEAD_BYTES, 0), at_most=4)


def cut(data: bytes, rng: Rng) -> bytes:
    """Keep a part from the beginning on; now and then from the middle on."""
    place = int(rng.integers(1, len(data)))
    return data[place:] if rng.random() < 0.1 else data[:place]


def _range(data: bytes, rng: Rng) -> tuple[int, int]:
    begin = int(rng.integers(len(data)))
    return begin, min(begin + int(2 ** rng.uniform(0, 11)), len(data))


def zero(data: bytes, rng: Rng) -> bytes:
    begin, end = _range(data, rng)
    return data[:begin] + bytes(end - begin) + data[end:]


def remove(data: bytes, rng: Rng) -> bytes:
    begin, end = _range(data, rng)
    return data[:begin] + data[end:]


def repeat(data: bytes, rng: Rng) -> bytes:
    begin, end = _range(data, rng)
    return data[:end] + data[begin:]


def insert(data: bytes, rng: Rng) -> bytes:
    begin, end = _range(data, rng)
    return data[:begin] + rng.bytes(end - begin) + data[begin:]


def overwrite(data: bytes, rng: Rng) -> bytes:
    """Put extreme numbers where a length or a count may stand."""
    place = int(rng.integers(max(len(data) - 8, 1)))
    number = (b"\xff" * 4, b"\x7f\xff\xff\xff", b"\xff\xff\xff\x7f", bytes(4), b"\x80\0\0\0", b"\xff" * 8)
    chosen = number[int(rng.integers(len(number)))]
    return data[:place] + chosen + data[place + len(chosen) :]


BYTE_MUTATORS: dict[str, Mutator] = {
    mutator.__name__: mutator
    for mutator in (flip, flip_one, flip_body, flip_head, flip_tail, cut, zero, remove, repeat, insert, overwrite)
}

# Tables


def _boxes(data: bytes, begin: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """The boxes of an MP4 (ISO 14496-12, section 4.2), with where their content begins and ends."""
    while begin + 8 <= end:
        size, kind = struct.unpack(">I4s", data[begin : begin + 8])
        if not 8 <= size <= end - begin:
            return
        yield kind, begin + 8, begin + size
        if kind in (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"edts"):
            yield from _boxes(data, begin + 8, begin + size)
        begin += size


def _mp4_tables(data: bytes) -> Iterator[list[int]]:
    shapes = {b"stts": (8, 8), b"ctts": (8, 8), b"stsc": (8, 12), b"stsz": (12, 4), b"stco": (8, 4), b"stss": (8, 4)}
    for kind, begin, end in _boxes(data, 0, len(data)):
        if kind in shapes:
            head, width = shapes[kind]
            yield list(range(begin + head, end + 1, width))


def _avi_index(data: bytes) -> Iterator[list[int]]:
    place = data.rindex(b"idx1")
    (size,) = struct.unpack("<I", data[place + 4 : place + 8])
    yield list(range(place + 8, place + 8 + size + 1, 16))


def _cues(data: bytes) -> Iterator[list[int]]:
    """The cue points of a Matroska file (RFC 9559, section 5.1.5); the sizes of elements take one byte here."""
    place = data.index(b"\xbb", data.rindex(b"\x1c\x53\xbb\x6b") + 5 + 6)  # behind size and checksum
    places = [place]
    while data[place : place + 1] == b"\xbb":
        place += 2 + (data[place + 1] & 0x7F)
        places.append(place)
    yield places


TABLES = {".mp4": _mp4_tables, ".avi": _avi_index, ".mkv": _cues}
"""For each container what finds its tables: where the entries begin, and where the last one ends."""


def shuffle_table(data: bytes, rng: Rng, *, suffix: str) -> bytes:
    """Swap entries of a container's tables, shuffle one, or repeat one entry over all."""
    tables = [places for places in TABLES[suffix](data) if len(places) > 2]
    places = tables[int(rng.integers(len(tables)))]
    entries = [data[begin:end] for begin, end in pairwise(places)]
    way = rng.random()
    if way < 0.4:
        i, j = rng.choice(len(entries), 2, replace=False)
        entries[i], entries[j] = entries[j], entries[i]
    elif way < 0.8:
        entries = [entries[i] for i in rng.permutation(len(entries))]
    else:
        entries = [entries[int(rng.integers(len(entries)))]] * len(entries)
    return data[: places[0]] + b"".join(entries) + data[places[-1] :]


# Packets


def remux(source: Path, path: Path, rng: Rng) -> None:
    """Write the same packets, of which some are swapped, lost, there twice, or of another's content."""
    with av.open(str(source)) as old, av.open(str(path), "w", options={"fflags": "+bitexact"}) as new:
        streams = {stream.index: new.add_stream_from_template(stream) for stream in old.streams}
        packets = [packet for packet in old.demux() if packet.size]
        places = [i for i, packet in enumerate(packets) if packet.stream.type == "video"]
        contents: list[int | None] = list(range(len(packets)))
        for _ in range(int(rng.integers(1, 4))):
            i, j = (int(place) for place in rng.choice(places, 2, replace=False))
            way = int(rng.integers(4))
            if way == 0:
                contents[i], contents[j] = contents[j], contents[i]
            elif way == 1:
                contents[i], contents[i + 1 :] = None, contents[i + 1 :]
            elif way == 2:
                contents[i] = contents[j]
            else:  # neighbours
                k = places[max(places.index(i) - 1, 0)]
                contents[i], contents[k] = contents[k], contents[i]
        _order(packets, places)
        for own, content in zip(packets, contents, strict=True):
            if content is not None:
                new.mux(_with_content(own, packets[content], streams[own.stream.index]))


def _order(packets: list[Any], places: list[int]) -> None:
    """Let decoding times rise, as a muxer wants them; Matroska stores none, and its demuxer's guesses may fall."""
    stamps = [packets[i].dts for i in places]
    if None in stamps or any(late <= early for early, late in pairwise(stamps)):
        times = sorted(packets[i].pts for i in places)
        for i, time in zip(places, times, strict=True):
            packets[i].dts = time - 4 * (times[1] - times[0])


def _with_content(own: Any, content: Any, stream: Any) -> Any:
    packet = av.Packet(bytes(content))
    packet.pts, packet.dts, packet.time_base = own.pts, own.dts, own.time_base
    packet.is_keyframe, packet.stream = own.is_keyframe, stream
    return packet


# Videos

_B_H264 = {"codec": "h264", "quantiser": 24, "num_b_frames": 2, "options": {"refs": "3"}}
_TONE = np.sin(np.arange(42000) / 20).astype(np.float32) / 4
SOURCES: dict[str, dict[str, Any]] = {
    "mpeg4.avi": {"gop": 12},
    "mpeg4.mp4": {"gop": 6, "audio": _TONE, "audio_codec": "aac"},
    "mpeg4_b.avi": {"gop": 12, "num_b_frames": 2, "audio": _TONE},
    "mpeg4_b.mp4": {"gop": 12, "num_b_frames": 2},
    "mpeg4_qpel.mkv": {"gop": 10, "num_b_frames": 1, "options": {"flags": "+mv4+qpel"}},
    "h264.avi": {"codec": "h264", "gop": 12, "quantiser": 24, "options": {"refs": "1"}},
    "h264_b.mp4": {"gop": 8, **_B_H264},
    "h264_b.mkv": {"gop": 8, "audio": _TONE, "audio_codec": "aac", **_B_H264},
}


def write_sources(folder: Path) -> list[Path]:
    """Write a small clip of each kind: 24 frames of 64x48."""
    folder.mkdir(parents=True, exist_ok=True)
    frames = busy_frames(NUM_FRAMES, *SIZE)
    for name, settings in SOURCES.items():
        write_video(folder / name, frames, **settings)
    return [folder / name for name in SOURCES]


def write_mutants(sources: list[Path], folder: Path, count: int) -> list[Path]:
    """Write mutants of each source in turn, by each mutator in turn; their names say how they came to be."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for seed in range(count):
        source = sources[seed % len(sources)]
        suffix = source.suffix
        mutators = BYTE_MUTATORS | {"shuffle_table": partial(shuffle_table, suffix=suffix)}
        names = [*mutators, "remux", "remux", "shuffle_table"]
        name = names[seed // len(sources) % len(names)]
        path = folder / f"{seed:05d}_{source.stem}_{name}{suffix}"
        if name == "remux":
            remux(source, path, np.random.default_rng(seed))
        else:
            path.write_bytes(mutators[name](source.read_bytes(), np.random.default_rng(seed)))
        paths.append(path)
    return paths


# Shards


def members(tar: bytes) -> list[tuple[int, int]]:
    """Where the members of a tar begin and how long their content is; names beyond 100 characters aren't here."""
    found, place = [], 0
    while tar[place : place + 1].strip(b"\0"):
        size = int(tar[place + 124 : place + 135], 8)
        found.append((place, size))
        place += 512 + -(-size // 512) * 512
    return found


def sealed(header: bytes) -> bytes:
    """A tar header with the checksum that it should have (POSIX 1003.1, pax, ustar interchange format)."""
    blank = header[:148] + b" " * 8 + header[156:]
    return header[:148] + b"%06o\0 " % sum(blank) + header[156:]


def swap_members(tar: bytes, rng: Rng) -> bytes:
    """Let two members change places, or replace one by another."""
    found = members(tar)
    pieces = [tar[begin : begin + 512 + -(-size // 512) * 512] for begin, size in found]
    i, j = (int(place) for place in rng.choice(len(pieces), 2, replace=False))
    pieces[i], pieces[j] = pieces[j], pieces[i] if rng.random() < 0.7 else pieces[j]
    return b"".join(pieces) + tar[-1024:]


def change_header(tar: bytes, rng: Rng) -> bytes:
    """Change the name, size or kind of a member; the checksum fits."""
    begin, _ = members(tar)[int(rng.integers(len(members(tar))))]
    header = bytearray(tar[begin : begin + 512])
    way = int(rng.integers(4))
    if way == 0:
        header[int(rng.integers(100))] = int(rng.integers(256))
    elif way == 1:
        sizes = (b"77777777777\0", b"00000000000\0", b"\xff" * 12, b"\x80" + b"\xff" * 11, b"-0000001000\0")
        header[124:136] = sizes[int(rng.integers(len(sizes)))]
    elif way == 2:
        header[156] = b"012356DLKxgSV\0"[int(rng.integers(14))]
    else:
        header[int(rng.integers(512))] ^= 1 << int(rng.integers(8))
    return tar[:begin] + sealed(bytes(header)) + tar[begin + 512 :]


def change_content(tar: bytes, rng: Rng) -> bytes:
    """Damage what one member holds, such as a picture or an array; the tar itself stays sound."""
    found = members(tar)
    rare = [i for i, (begin, _) in enumerate(found) if b".rgb" not in tar[begin : begin + 100]]
    i = int(rng.choice(rare)) if rng.random() < 0.7 else int(rng.integers(len(found)))
    begin, size = found[i]
    mutators = list(BYTE_MUTATORS.values())
    content = mutators[int(rng.integers(len(mutators)))](tar[begin + 512 : begin + 512 + size], rng)
    return _with_member(tar, begin, size, content)


_ODD_VALUES: tuple[Any, ...] = (None, True, -1, 0, 1, 10**30, 1e308, "", "x", [], {}, [[]], "../../x", "a\0b", [10**9])


def change_value(value: Any, rng: Rng) -> Any:
    """Replace, remove or add something somewhere in a JSON value."""
    if isinstance(value, dict) and value and rng.random() < 0.9:
        name = list(value)[int(rng.integers(len(value)))]
        rest = {key: item for key, item in value.items() if key != name}
        way = rng.random()
        if way < 0.2:
            return rest if way < 0.1 else {**rest, "x" + name: value[name]}
        return {key: change_value(item, rng) if key == name else item for key, item in value.items()}
    if isinstance(value, list) and value and rng.random() < 0.9:
        i = int(rng.integers(len(value)))
        way = rng.random()
        if way < 0.3:
            return value[:i] + value[i + 1 :] if way < 0.15 else value[: i + 1] + value[i:]
        return [*value[:i], change_value(value[i], rng), *value[i + 1 :]]
    return _ODD_VALUES[int(rng.integers(len(_ODD_VALUES)))]


def change_json(tar: bytes, rng: Rng) -> bytes:
    """Change one value in the json of one sample."""
    found = [(begin, size) for begin, size in members(tar) if b".json\0" in tar[begin : begin + 100]]
    begin, size = found[int(rng.integers(len(found)))]
    changed = change_value(json.loads(tar[begin + 512 : begin + 512 + size]), rng)
    content = json.dumps(changed, separators=(",", ":")).encode()
    return _with_member(tar, begin, size, content)


def _with_member(tar: bytes, begin: int, size: int, content: bytes) -> bytes:
    header = sealed(tar[begin : begin + 124] + b"%011o\0" % len(content) + tar[begin + 136 : begin + 512])
    end = begin + 512 + -(-size // 512) * 512
    return tar[:begin] + header + content + bytes(-len(content) % 512) + tar[end:]


TAR_MUTATORS = BYTE_MUTATORS | {
    mutator.__name__: mutator for mutator in (swap_members, change_header, change_content, change_json)
}
