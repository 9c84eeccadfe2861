"""Output of CoViAR's own loader (Wu et al., CVPR 2018) for three real clips, equal bit for bit."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vidprep.codec.frame import Frame
from vidprep.codec.motion import accumulate_vectors
from vidprep.codec.video import Video

CLIPS = ["v_ApplyEyeMakeup_g01_c01", "v_BaseballPitch_g01_c01", "v_Basketball_g01_c01"]
WRITTEN_COLUMNS = 336  # CoViAR's colour conversion leaves the last width mod 16 columns black


@pytest.mark.parametrize("clip", CLIPS)
def test_loader(shared: Path, clip: str) -> None:
    golden = np.load(shared / "golden" / "coviar" / f"{clip}.npz")
    wanted = {key.rpartition("_")[0] for key in golden.files}
    assert len(wanted) == 9
    previous = np.empty(0)
    for frame in Video(shared / "golden" / "coviar" / f"{clip}.m4v").frames(track="residual"):
        key = f"g{frame.gop_index}p{frame.gop_position}"
        if key in wanted:
            wanted.remove(key)
            _compare(frame, previous, golden, key)
        previous = frame.rgb().copy()
    assert not wanted


def _compare(frame: Frame, previous: Any, golden: Any, key: str) -> None:
    motion, accumulated = frame.motion(), frame.accumulated_motion()
    assert accumulated.any()
    assert np.array_equal(motion, golden[f"{key}_mv"])
    assert np.array_equal(accumulated, golden[f"{key}_accmv"])
    for vectors, kind in ((motion, "res"), (accumulated, "accres")):
        x = np.arange(frame.width)
        written = (x < WRITTEN_COLUMNS) & (x - vectors[..., 0] < WRITTEN_COLUMNS)
        assert written.mean() > 0.9
        ours = frame.accumulated_residual() if kind == "accres" else _one_step(frame, vectors, previous)
        assert np.array_equal(ours[..., ::-1][written], golden[f"{key}_{kind}"][written]), kind


def _one_step(frame: Frame, motion: Any, previous: Any) -> Any:
    y, x = np.mgrid[: frame.height, : frame.width]
    return frame.rgb().astype(np.int16) - previous[y - motion[..., 1], x - motion[..., 0]]


@pytest.mark.parametrize("clip", CLIPS)
def test_from_stored_vectors(shared: Path, clip: str) -> None:
    golden = np.load(shared / "golden" / "coviar" / f"{clip}.npz")
    frames = list(Video(shared / "golden" / "coviar" / f"{clip}.m4v").frames())
    out = np.empty((len(frames), 256, 340, 2), np.int16)
    accumulate_vectors([frame.vectors for frame in frames], "".join(f.picture_type for f in frames), out)
    places = {f"g{frame.gop_index}p{frame.gop_position}_accmv": frame.index for frame in frames}
    for key in golden.files:
        if key.endswith("_accmv"):
            assert np.array_equal(out[places[key]], golden[key]), key
