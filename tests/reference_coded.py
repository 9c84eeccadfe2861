"""A slow, obvious oracle of MPEG-4 Part 2's motion compensation, block by block, from ISO/IEC 14496-2, section 7.6.

Nothing here uses vidprep, so that it can't be wrong in the same way. Planes are whole macroblocks, without padding.
"""

import numpy as np
from numpy.typing import NDArray

Plane = NDArray[np.int64]
Macroblock = np.void

HALF_WEIGHTS = (-1, 3, -6, 20, 20, -6, 3, -1)  # of 32, section 7.6.2.2
QUARTER_TO_HALF = (0, 1, 1, 1)  # chroma of one vector, in quarters of a sample: table 7-9
SIXTEENTH_TO_HALF = (0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 2, 2)  # chroma of four vectors: table 7-10
INTER_WEIGHTS = np.array([  # the matrix of inter macroblocks, where a stream has none of its own: section 6.3.3
    [16, 17, 18, 19, 20, 21, 22, 23], [17, 18, 19, 20, 21, 22, 23, 24], [18, 19, 20, 21, 22, 23, 24, 25],
    [19, 20, 21, 22, 23, 24, 26, 27], [20, 21, 22, 23, 25, 26, 27, 28], [21, 22, 23, 24, 26, 27, 28, 30],
    [22, 23, 24, 26, 27, 28, 30, 31], [23, 24, 25, 27, 28, 30, 31, 33],
])  # fmt: skip


def area(plane: Plane, x: int, y: int, size: int) -> Plane:
    """Cut a square that may leave the plane: there, the nearest sample is taken (section 7.6.4)."""
    columns = np.clip(np.arange(x, x + size), 0, plane.shape[1] - 1)
    lines = np.clip(np.arange(y, y + size), 0, plane.shape[0] - 1)
    return plane[np.ix_(lines, columns)].astype(np.int64)


def half_sample_block(plane: Plane, x2: int, y2: int, size: int, rounding: int) -> Plane:
    """Predict a block at a place in half samples: bilinear (section 7.6.2.1)."""
    a = area(plane, x2 // 2, y2 // 2, size + 1)
    match x2 % 2, y2 % 2:
        case 0, 0:
            return a[:-1, :-1]
        case 1, 0:
            return (a[:-1, :-1] + a[:-1, 1:] + 1 - rounding) // 2
        case 0, 1:
            return (a[:-1, :-1] + a[1:, :-1] + 1 - rounding) // 2
    return (a[:-1, :-1] + a[:-1, 1:] + a[1:, :-1] + a[1:, 1:] + 2 - rounding) // 4


def quarter_sample_block(plane: Plane, x4: int, y4: int, size: int, rounding: int) -> Plane:
    """Predict a block at a place in quarter samples: all rows first, then the columns (section 7.6.2.2)."""
    block = area(plane, x4 // 4, y4 // 4, size + 1)
    return quarter_shift(quarter_shift(block, x4 % 4, rounding).T, y4 % 4, rounding).T


def quarter_shift(block: Plane, fraction: int, rounding: int) -> Plane:
    """Move rows of N + 1 samples by quarters; N are left. Beyond its ends a row is mirrored."""
    size = block.shape[1] - 1
    mirrored = np.pad(block, ((0, 0), (3, 3)), "symmetric")
    half = sum(weight * mirrored[:, i : i + size] for i, weight in enumerate(HALF_WEIGHTS))
    half = np.clip((half + 16 - rounding) // 32, 0, 255)
    match fraction:
        case 0:
            return block[:, :-1]
        case 1:
            return (block[:, :-1] + half + 1 - rounding) // 2
        case 3:
            return (block[:, 1:] + half + 1 - rounding) // 2
    return half


def predict_luma(
    macroblock: Macroblock, row: int, column: int, references: dict[str, Plane], quarter: bool, rounding: int,
    size: tuple[int, int],
) -> Plane:  # fmt: skip
    """Predict 16x16 samples of luma."""
    if macroblock["intra"]:
        return np.full((16, 16), 128)
    scale = 4 if quarter else 2
    predict = quarter_sample_block if quarter else half_sample_block
    predictions = []
    for direction in ("past", "future"):
        if not macroblock[direction]:
            continue
        vectors = list(zip(macroblock[f"{direction}_x"].tolist(), macroblock[f"{direction}_y"].tolist(), strict=True))
        if macroblock["four"]:
            blocks = []
            for i, (vx, vy) in enumerate(vectors):
                x, y = 16 * column + 8 * (i % 2), 16 * row + 8 * (i // 2)
                x, y = near(scale * x + vx, scale, -16, size[1]), near(scale * y + vy, scale, -16, size[0])
                blocks.append(predict(references[direction], x, y, 8, rounding))
            predictions.append(np.block([blocks[:2], blocks[2:]]))
        else:
            x, y = scale * 16 * column + vectors[0][0], scale * 16 * row + vectors[0][1]
            predictions.append(predict(references[direction], x, y, 16, rounding))
    return mean(predictions)


def predict_chroma(
    macroblock: Macroblock, row: int, column: int, references: dict[str, Plane], quarter: bool, rounding: int,
    size: tuple[int, int],
) -> Plane:  # fmt: skip
    """Predict 8x8 samples of one chroma plane; ``size`` is that of luma."""
    if macroblock["intra"]:
        return np.full((8, 8), 128)
    predictions = []
    for direction in ("past", "future"):
        if macroblock[direction]:
            vx, vy = (chroma_vector(macroblock[f"{direction}_{axis}"], macroblock["four"], quarter) for axis in "xy")
            x, y = 16 * column + vx, 16 * row + vy
            if macroblock["four"]:
                x, y = near(x, 2, -8, size[1] // 2), near(y, 2, -8, size[0] // 2)
            predictions.append(half_sample_block(references[direction], x, y, 8, rounding))
    return mean(predictions)


def chroma_vector(vectors: NDArray[np.int16], is_four: bool, quarter: bool) -> int:
    """Derive one component, in half samples of chroma (sections 7.6.5 and 7.6.2.2)."""
    halves = [int(v / 2) if quarter else int(v) for v in vectors]  # int() cuts toward zero
    if is_four:
        whole, sixteenth = divmod(sum(halves), 16)
        return 2 * whole + SIXTEENTH_TO_HALF[sixteenth]
    whole, quarters = divmod(halves[0], 4)
    return 2 * whole + QUARTER_TO_HALF[quarters]


def near(place: int, scale: int, low: int, high: int) -> int:
    """Keep one of four blocks near the picture, as libavcodec does; the standard does so with its vector."""
    return min(max(place, low * scale + place % scale), high * scale)


def mean(predictions: list[Plane]) -> Plane:
    """Both references, rounded up (section 7.6.9.4); one alone stays as it is."""
    return predictions[0] if len(predictions) == 1 else (predictions[0] + predictions[1] + 1) // 2


# What a bitstream codes


def coded_blocks(macroblocks: NDArray[np.void], plane: int) -> NDArray[np.bool_]:
    """Tell for each 8x8 block of a plane whether it has coefficients."""
    cbp = macroblocks["cbp"]
    if plane:
        return (cbp >> (2 - plane) & 1).astype(bool)
    bits = [[cbp >> 5 & 1, cbp >> 4 & 1], [cbp >> 3 & 1, cbp >> 2 & 1]]  # first row of blocks, second row
    return np.stack([np.stack(row, -1) for row in bits], 1).reshape(2 * cbp.shape[0], -1).astype(bool)


def of_blocks(values: NDArray[np.generic], plane: int) -> NDArray[np.generic]:
    """Give each 8x8 block of a plane its macroblock's value."""
    return values if plane else np.repeat(np.repeat(values, 2, 0), 2, 1)


def whole_blocks(plane: NDArray[np.generic]) -> NDArray[np.generic]:
    """Cut a plane into its whole 8x8 blocks [shape=(rows, columns, 8, 8)]."""
    rows, columns = plane.shape[0] // 8, plane.shape[1] // 8
    return plane[: 8 * rows, : 8 * columns].reshape(rows, 8, columns, 8).swapaxes(1, 2)


def level_errors(
    blocks: NDArray[np.int16], quantiser: NDArray[np.int64], has_matrix: bool = False
) -> NDArray[np.float64]:
    """Return how far blocks of a residual are from the nearest that can be coded [shape=(N,)]: at most, of a sample.

    A coefficient is 0 or stands for a level (section 7.4.4.1 or 7.4.4.2); an inverse transform and rounding make the
    residual of it (annex A). Noise is far from all that levels can make.
    """
    n, k = np.mgrid[:8, :8]
    cosines = np.sqrt(np.where(k == 0, 1, 2) / 8) * np.cos((2 * n + 1) * k * np.pi / 16)
    coefficients = cosines.T @ blocks @ cosines
    dequantise = with_matrix if has_matrix else without_matrix
    nearest = dequantise(coefficients, quantiser[:, None, None])
    return np.abs(np.rint(cosines @ nearest @ cosines.T) - blocks).max((1, 2))


def without_matrix(coefficients: NDArray[np.float64], q: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the nearest of 0 and ``q * (2 * level + 1)``, less 1 if the quantiser is even (section 7.4.4.2)."""
    is_even = (q + 1) % 2
    level = np.maximum(np.rint((np.abs(coefficients) + is_even - q) / (2 * q)), 0)
    return np.where(level > 0, np.sign(coefficients) * (q * (2 * level + 1) - is_even), 0)


def with_matrix(coefficients: NDArray[np.float64], q: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the nearest of 0 and ``(2 * level + 1) * weight * q / 16``, and mismatch control (section 7.4.4.1)."""
    weight = INTER_WEIGHTS * q
    level = np.maximum(np.rint((16 * np.abs(coefficients) / weight - 1) / 2), 0)
    nearest = np.where(level > 0, np.sign(coefficients) * ((2 * level + 1) * weight // 16), 0).astype(np.int64)
    nearest[:, 7, 7] ^= (nearest.sum((1, 2)) % 2 == 0).astype(np.int64)  # the sum is made odd
    return nearest.astype(np.float64)
