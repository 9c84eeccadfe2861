"""P-VOPs of random macroblocks: what no encoder here writes, as DC thresholds, stuffing and long packet headers."""

import random
from dataclasses import dataclass, field
from typing import Any

import av
import numpy as np
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from vidprep.codec import _mpeg4_tables as tables
from vidprep.codec.blocks import BLOCK_DTYPE
from vidprep.codec.macroblocks import MacroblockParser
from vidprep.codec.mpeg4 import read_vol

ROWS, COLUMNS = 3, 4
NUMBER_BITS = 4
LAYER_BITS = (
    "0" "00000001" "0" "0001" "0"  # not random, simple, no version, square pixels, no control parameters
    "00" "1" f"{25:016b}" "1" "0"  # a rectangle, 25 ticks a second, of no fixed rate
    "1" f"{16 * COLUMNS:013b}" "1" f"{16 * ROWS:013b}" "1"
    "0" "1" "0" "0" "0" "1" "0" "0" "0"  # nothing special but video packets
)  # fmt: skip
THRESHOLDS = (99, 13, 15, 17, 19, 21, 23, 0)


def codes_of(table: np.ndarray) -> dict[int, str]:
    """Map each value to its code."""
    found: dict[int, str] = {}
    for place, entry in enumerate(table.tolist()):
        if entry:
            found.setdefault(entry >> 4, f"{place:013b}"[: entry & 15])
    return found


MCBPC, CBPY, MOTION = (codes_of(table) for table in (tables.MCBPC_INTER, tables.CBPY, tables.MOTION))
EVENTS = tuple(codes_of(table) for table in tables.COEFFICIENTS)
SIZES = tuple(codes_of(table) for table in tables.DC_SIZES)
ESCAPE = EVENTS[0][tables.ESCAPE]


def as_bytes(bits: str) -> bytes:
    """Add the stuffing: a zero, then ones up to the byte's end."""
    bits += "0"
    bits = bits.ljust(-(-len(bits) // 8) * 8, "1")
    return int(bits, 2).to_bytes(len(bits) // 8)


LAYER = b"\0\0\1\0\0\0\1\x20" + as_bytes(LAYER_BITS)
GRAY = b"\0\0\1\xb6" + as_bytes("0001000001100000100" + ("100011" + 4 * "011" + 2 * "11") * 12)


@dataclass
class Writer:
    """Writes one P-VOP and notes what it holds."""

    rng: random.Random
    quantiser: int = 0
    threshold: int = 0
    fcode: int = 1
    bits: str = ""
    expected: list[dict[str, int]] = field(default_factory=list)

    def vop(self) -> bytes:
        self.quantiser, self.threshold = self.rng.randint(1, 31), self.rng.randrange(8)
        self.fcode = self.rng.randint(1, 3)
        header = f"01010000111{self.rng.randrange(2)}{self.threshold:03b}{self.quantiser:05b}{self.fcode:03b}"
        self.bits = header
        for number in range(ROWS * COLUMNS):
            is_first = number > 0 and self.rng.random() < 0.25
            if is_first:
                self.packet(number)
            self.macroblock(is_first)
        self.bits += "0000000001" * self.rng.randrange(2)
        return b"\0\0\1\xb6" + as_bytes(self.bits)

    def packet(self, number: int) -> None:
        self.quantiser = self.rng.randint(1, 31)
        self.bits += "0"
        self.bits = self.bits.ljust(-(-len(self.bits) // 8) * 8, "1")
        self.bits += "0" * (15 + self.fcode) + f"1{number:0{NUMBER_BITS}b}{self.quantiser:05b}"
        extension = f"0100001101{self.threshold:03b}{self.fcode:03b}"
        self.bits += self.rng.choice(["0", "1" + extension])

    def macroblock(self, is_first: bool) -> None:
        kind = self.rng.choice(["skipped", "one", "four", "intra"])
        self.bits += "0000000001" * (self.rng.random() < 0.1)
        facts = {"skipped": 0, "intra": 0, "split": 0, "cbp": 0, "first": int(is_first)}
        if kind == "skipped":
            self.bits += "1"
            self.expected.append({**facts, "skipped": 1, "quantiser": self.quantiser})
            return
        intra, cbp, change = kind == "intra", self.rng.randrange(64), self.rng.choice([None, None, -1, -2, 1, 2])
        self.bits += "0" + MCBPC[(cbp & 3) + 4 * intra + 8 * (change is not None) + 16 * (kind == "four")]
        self.bits += str(self.rng.randrange(2)) if intra else ""
        self.bits += CBPY[cbp >> 2 if intra else 15 - (cbp >> 2)]
        has_dc = self.quantiser < THRESHOLDS[self.threshold]
        if change is not None:
            self.bits += f"{[-1, -2, 1, 2].index(change):02b}"
            self.quantiser = min(max(self.quantiser + change, 1), 31)
        if not intra:
            self.bits += "".join(self.component() for _ in range(8 if kind == "four" else 2))
        for block in range(6):
            self.bits += self.dc(block) if intra and has_dc else ""
            self.bits += self.coefficients(intra) if cbp >> (5 - block) & 1 else ""
        facts |= {"intra": int(intra), "split": int(kind == "four"), "cbp": cbp, "quantiser": self.quantiser}
        self.expected.append(facts)

    def component(self) -> str:
        code = self.rng.choice([0, 0, 1, 2, 3, 5, 8, 17, 32])
        if code == 0:
            return MOTION[0]
        rest = "".join(str(self.rng.randrange(2)) for _ in range(self.fcode - 1))
        return MOTION[code] + str(self.rng.randrange(2)) + rest

    def dc(self, block: int) -> str:
        size = self.rng.choice([0, 0, 1, 2, 3])
        return SIZES[block > 3][size] + "".join(str(self.rng.randrange(2)) for _ in range(size))

    def coefficients(self, intra: bool) -> str:
        events = [self.event(intra, last=0, longest=2) for _ in range(self.rng.randrange(4))]
        return "".join(events) + self.event(intra, last=1, longest=10)

    def event(self, intra: bool, last: int, longest: int) -> str:
        """Write a code, or one of the three escapes."""
        values = [v for v in EVENTS[intra] if v != tables.ESCAPE and v >> 12 == last and v >> 6 & 63 <= longest]
        code, sign = EVENTS[intra][self.rng.choice(values)], str(self.rng.randrange(2))
        if self.rng.random() < 0.7:
            return code + sign
        if self.rng.random() < 0.3:
            return ESCAPE + "0" + code + sign
        if last and self.rng.random() < 0.3:
            short = next(c for v, c in EVENTS[intra].items() if v >> 12 == 1 and v & 63 == 3 and v >> 6 & 63 == 0)
            return ESCAPE + "10" + short + sign
        level = self.rng.choice([1, 40, 1000, 2047, 2048, 4000, 4095])
        return ESCAPE + f"11{last}{self.rng.randint(0, longest):06b}1{level:012b}1"


def decoded(packets: list[bytes]) -> list[av.VideoFrame]:
    context = av.VideoCodecContext.create("mpeg4", "r")
    context.thread_count, context.flags2 = 1, context.flags2 | av.codec.context.Flags2.export_mvs
    pictures = [picture for packet in packets for picture in context.decode(av.Packet(packet + bytes(64)))]
    return pictures + list(context.decode(None))


@settings(max_examples=150)
@given(st.integers(0, 2**32))
def test_p_vops(seed: int) -> None:
    """The parser reads what was written, and libavcodec the same vectors, up to those that it forgets."""
    writer = Writer(random.Random(seed))
    packets = [LAYER + GRAY, writer.vop()]
    parser = MacroblockParser(b"")
    parser.read(packets[0])
    coded = parser.read(packets[1])
    assert coded is not None
    assert coded.macroblocks is not None
    found: Any = coded.macroblocks.ravel()
    for i, facts in enumerate(writer.expected):
        assert {name: int(found[i][name]) for name in facts} == facts, i
    pictures = decoded(packets)
    assert len(pictures) == 2
    assume(not pictures[1].is_corrupt)  # by chance, about once in two thousand, codes make up a marker
    side_data = pictures[1].side_data.get("MOTION_VECTORS")
    exported = np.empty(0, BLOCK_DTYPE) if side_data is None else np.frombuffer(memoryview(side_data), BLOCK_DTYPE)
    vectors = coded.vectors
    assert len(vectors) == len(exported)
    for block, plain in zip(vectors, exported, strict=True):
        if block != plain:
            row, column = plain["dst_y"] // 16, plain["dst_x"] // 16
            beside = coded.macroblocks[row, column + 1]
            assert beside["first"]
            assert beside["split"]
            assert (plain["dst_x"] % 16, plain["motion_x"], plain["motion_y"]) == (12, 0, 0)


def test_the_layer_is_what_it_should_be() -> None:
    vol = read_vol(LAYER)
    assert vol.mb_shape == (ROWS, COLUMNS)
    assert not vol.resync_marker_disable
    assert decoded([LAYER + GRAY])[0].width == 16 * COLUMNS
