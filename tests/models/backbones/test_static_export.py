"""What compiles and exports: the 3D networks as a whole, to one graph, for clips of any number and length."""

import warnings
from collections.abc import Callable
from pathlib import Path

import onnxruntime
import pytest
import torch
from networks import filled, filled_clip

from vidprep.models.backbones import VideoNetwork
from vidprep.models.backbones.resnet3d import resnet3d_18
from vidprep.models.backbones.slowfast import SlowFast
from vidprep.models.backbones.x3d import X3D


def small_slowfast(num_classes: int) -> SlowFast:
    return SlowFast(num_classes, num_blocks=(1, 1, 1, 1), alpha=4, lateral_kernel=7)


def small_x3d(num_classes: int) -> X3D:
    return X3D(num_classes, num_blocks=(1, 2, 1, 1))


BUILDS = (small_x3d, small_slowfast, resnet3d_18)


@pytest.mark.slow
@pytest.mark.parametrize("build", BUILDS)
def test_one_graph_compiles(build: Callable[[int], VideoNetwork]) -> None:
    network, clip = filled(build(5)), filled_clip("export", 1, 3, 8, 32, 32)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the compiler's own, on machines without a GPU
        compiled = torch.compile(network, fullgraph=True, backend="aot_eager")
        torch.testing.assert_close(compiled(clip), network(clip), rtol=1e-4, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("build", BUILDS)
def test_onnx_gives_the_same_logits(build: Callable[[int], VideoNetwork], tmp_path: Path) -> None:
    """Exported at one size, and run on a longer clip too: only height and width are fixed."""
    network, clip = filled(build(5)), filled_clip("export", 2, 3, 8, 32, 32)
    sizes = {0: torch.export.Dim("num_clips"), 2: torch.export.Dim("num_frames", min=4)}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the exporter's own, on what it will no longer do some day
        torch.onnx.export(network, (clip,), tmp_path / "a.onnx", dynamo=True, verbose=False, dynamic_shapes=(sizes,))
    session = onnxruntime.InferenceSession(tmp_path / "a.onnx", providers=["CPUExecutionProvider"])
    (entry,) = session.get_inputs()
    for shown in (clip, filled_clip("longer", 3, 3, 13, 32, 32)):
        (found,) = session.run(None, {entry.name: shown.numpy()})
        with torch.no_grad():
            torch.testing.assert_close(torch.from_numpy(found), network(shown), rtol=1e-4, atol=1e-5)
