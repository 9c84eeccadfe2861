"""Variable-length codes of MPEG-4 Part 2 as lookup tables (ISO/IEC 14496-2, annex B; ITU-T H.263 has the same).

A table is indexed by the next ``CODE_BITS`` bits; an entry is ``value << 4 | length of the code``, 0 where no code
begins so.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Table = NDArray[np.int32]

CODE_BITS = 13  # of the longest code

STUFFING = 20  # a value of MCBPC_INTER: no macroblock, read on
ESCAPE = 0  # a value of the coefficients' tables, where no event has level 0


def _table(codes: dict[str, int]) -> Table:
    table = np.zeros(1 << CODE_BITS, np.int32)
    for code, value in codes.items():
        free = CODE_BITS - len(code)
        first = int(code, 2) << free
        assert not table[first : first + (1 << free)].any(), code
        table[first : first + (1 << free)] = value << 4 | len(code)
    return table


def _numbered(codes: str) -> dict[str, int]:
    return {code: value for value, code in enumerate(codes.split()) if code != "-"}


MCBPC_INTER = _table(
    _numbered(
        "1         0011          0010          000101 "  # inter; cbpc 0 to 3
        "00011     00000100      00000011      0000011 "  # intra
        "011       0000111       0000110       000000101 "  # inter with dquant
        "000100    000000100     000000011     000000010 "  # intra with dquant
        "010       0000101       0000100       00000101 "  # inter, four vectors
        "000000001 -             -             - "  # stuffing
        "00000000010 0000000001100 0000000001110 0000000001111"  # four vectors with dquant, as in H.263
    )
)
"""Table B-7: ``cbpc``, + 4 if intra, + 8 with dquant, + 16 with four vectors; 20 is stuffing."""

CBPY = _table(_numbered("0011 00101 00100 1001 00011 0111 000010 1011 00010 000011 0101 1010 0100 1000 0110 11"))
"""Table B-8: the luma blocks' pattern in intra macroblocks; its complement in the others."""

MB_TYPE_B = _table(_numbered("1 01 001 0001"))
"""Table B-3: direct, both, future, past."""

MOTION = _table(
    _numbered(
        "1 01 001 0001 000011 0000101 0000100 0000011 000001011 000001010 000001001 "
        "0000010001 0000010000 0000001111 0000001110 0000001101 0000001100 0000001011 0000001010 0000001001 "
        "0000001000 0000000111 0000000110 0000000101 0000000100 "
        "00000000111 00000000110 00000000101 00000000100 00000000011 00000000010 000000000011 000000000010"
    )
)
"""Table B-12: the magnitude of a vector's difference; the sign follows."""

DC_SIZES = (
    _table(_numbered("011 11 10 010 001 0001 00001 000001 0000001 00000001")),
    _table(_numbered("11 10 01 001 0001 00001 000001 0000001 00000001 000000001")),
)
"""Tables B-13 and B-14: how many bits an intra DC difference has, luma and chroma; more than 9 make no 8-bit pixel."""

# Coefficients: a comma a run of zeros, from 0 on; in it a code a level, from 1 on.
_INTER = (
    "10 1111 010101 0010111 00011111 000100101 000100100 0000100001 0000100000 00000000111 00000000110 00000100000,"
    "110 010100 00011110 0000001111 00000100001 000001010000,1110 00011101 0000001110 000001010001,"
    "01101 000100011 0000001101,01100 000100010 000001010010,01011 0000001100 000001010011,"
    "010011 0000001011 000001010100,010010 0000001010,010001 0000001001,010000 0000001000,0010110 000001010101,"
    "0010101,0010100,00011100,00011011,000100001,000100000,000011111,000011110,000011101,000011100,000011011,"
    "000011010,00000100010,00000100011,000001010110,000001010111"
)
_INTER_LAST = (
    "0111 000011001 00000000101,001111 00000000100,001110,001101,001100,0010011,0010010,0010001,0010000,00011010,"
    "00011001,00011000,00010111,00010110,00010101,00010100,00010011,000011000,000010111,000010110,000010101,"
    "000010100,000010011,000010010,000010001,0000000111,0000000110,0000000101,0000000100,00000100100,00000100101,"
    "00000100110,00000100111,000001011000,000001011001,000001011010,000001011011,000001011100,000001011101,"
    "000001011110,000001011111"
)
_INTRA = (
    "10 110 1111 01101 01100 010101 010011 010010 0010111 00011111 00011110 00011101 000100101 000100100 000100011 "
    "000100001 0000100001 0000100000 0000001111 0000001110 00000000111 00000000110 00000100000 00000100001 "
    "000001010000 000001010001 000001010010,1110 010100 0010110 00011100 000100000 000011111 0000001101 00000100010 "
    "000001010011 000001010101,01011 0010101 000011110 0000001100 000001010110,010001 00011011 000011101 0000001011,"
    "010000 000100010 0000001010,001101 000011100 0000001000,0010010 000011011 000001010100,"
    "0010100 000011010 000001010111,00011001 0000001001,00011000 00000100011,00010111,000011001,000011000,0000000111,"
    "000001011000"
)
_INTRA_LAST = (
    "0111 001100 00010110 000010111 0000000110 00000000101 00000000100 000001011001,001111 000010110 0000000101,"
    "001110 0000000100,0010001 00000100100,0010000 00000100101,0010011 000001011010,00010101 000001011011,00010100,"
    "00010011,00011010,000010101,000010100,000010011,000010010,000010001,00000100110,00000100111,000001011100,"
    "000001011101,000001011110,000001011111"
)


def _events(groups: tuple[str, str]) -> dict[str, int]:
    """Map a code to ``last << 12 | run << 6 | level``."""
    events = {"0000011": ESCAPE}
    for last, group in enumerate(groups):
        for run, codes in enumerate(group.split(",")):
            for level, code in enumerate(codes.split(), start=1):
                events[code] = last << 12 | run << 6 | level
    return events


def _longest_runs(groups: tuple[str, str]) -> Table:
    """For each of last (0, 1) and level (0 to 63) the longest run that has a code: the second escape adds to it."""
    longest = np.zeros((2, 64), np.int32)
    for event in _events(groups).values():
        last, run, level = event >> 12, event >> 6 & 63, event & 63
        longest[last, level] = max(longest[last, level], run)
    return longest


COEFFICIENTS = (_table(_events((_INTER, _INTER_LAST))), _table(_events((_INTRA, _INTRA_LAST))))
"""Tables B-17 and B-16: coefficients of inter and of intra blocks."""

LONGEST_RUNS = (_longest_runs((_INTER, _INTER_LAST)), _longest_runs((_INTRA, _INTRA_LAST)))
"""Tables B-22 and B-21."""
