"""Adaptive zoom: the coding of guides, LNet against torchvision's network and the published cost, and the crops."""

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import numpy as np
import onnxruntime
import pytest
import torch
import torchvision
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from vidprep.models import AdaptiveZoom, FixedZoom, GuidedZoom, LNet, guide_maps
from vidprep.models.adaptive_zoom import Parameters, _within
from vidprep.models.backbones import BACKBONES
from vidprep.models.cropping import Crop
from vidprep.models.guides import busiest_place
from vidprep.models.weights import WeightsError
from vidprep.pipelines.flops import count_flops

NUM_FRAMES = 4
LIMITED = AdaptiveZoom(size=8, num_frames=NUM_FRAMES, parameters="all", guide_size=None).eval()
KINDS: tuple[Parameters, ...] = get_args(Parameters)
NUM_FREE = dict(zip(KINDS, (1, 3, 3, 5), strict=True))


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    yield
    torch.set_num_threads(before)


def zoom_of(
    parameters: Parameters = "scale", guide_size: tuple[int, int] | None = (32, 43), **more: object
) -> AdaptiveZoom:
    zoom = AdaptiveZoom(size=8, num_frames=NUM_FRAMES, parameters=parameters, guide_size=guide_size, **more)  # type: ignore[arg-type]
    return zoom.eval()


def with_opinions(zoom: AdaptiveZoom) -> AdaptiveZoom:
    """A zoom whose head no longer is zero, and whose features differ from clip to clip, as after training."""
    head = zoom.lnet.classifier[1]
    nn.init.normal_(head.weight, std=0.3)
    for module in zoom.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0  # so that one batch gives the statistics
    maps = guide_maps(clips(16)[1], zoom.guide_size)
    with torch.no_grad():
        zoom.train().lnet(maps)
        head.bias -= zoom.eval().lnet(maps).mean(0)
    return zoom


def clips(num_clips: int = 3, height: int = 12, width: int = 16) -> tuple[torch.Tensor, torch.Tensor]:
    frames = torch.randint(0, 256, (num_clips, 3, NUM_FRAMES, height, width), dtype=torch.uint8)
    residual = torch.randint(-255, 256, (num_clips, 3, NUM_FRAMES, 16, 22), dtype=torch.int16)
    for clip in residual:  # something happens in one part of each
        top, left = int(torch.randint(8, ())), int(torch.randint(12, ()))
        clip[..., :top, :] = clip[..., top + 8 :, :] = clip[..., :left] = clip[..., left + 10 :] = 0
    return frames, residual


# The guide.


def test_guides_are_norms_over_the_frames_largest() -> None:
    residual = torch.randint(-255, 256, (2, 3, 5, 9, 7), dtype=torch.int16)
    found = guide_maps(residual, None)
    assert (found.shape, found.dtype) == ((2, 5, 9, 7), torch.float32)
    for clip in range(2):
        for t in range(5):
            norm = np.sqrt((residual[clip, :, t].numpy().astype(np.float64) ** 2).sum(axis=0))
            np.testing.assert_allclose(found[clip, t], norm / norm.max(), rtol=1e-6)


def test_each_kind_of_guide_is_coded_alike() -> None:
    residual = torch.randint(-255, 256, (2, 3, 4, 20, 28), dtype=torch.int16)
    magnitude = (
        residual.float().square().sum(1, keepdim=True).sqrt()
    )  # as a batch's residual_magnitude is: (N, 1, T, h, w)
    torch.testing.assert_close(guide_maps(magnitude), guide_maps(residual))
    torch.testing.assert_close(guide_maps(-3.5 * residual), guide_maps(residual))  # only where, not how much
    for other in (torch.randn(2, 2, 4, 20, 28), torch.randint(0, 256, (2, 3, 4, 20, 28), dtype=torch.uint8)):
        maps = guide_maps(other)
        assert maps.shape == (2, 4, 64, 86)
        assert maps.min() >= 0 and maps.max() <= 1
        torch.testing.assert_close(maps, guide_maps(other.contiguous(memory_format=torch.channels_last_3d)))


def test_guides_are_resized_as_pictures_are() -> None:
    magnitude = torch.zeros(1, 1, 1, 128, 172)
    magnitude[..., 32:64, 86:] = 10
    found = guide_maps(magnitude, (64, 86))
    assert (found[0, 0, 17:31, 44:] == 1).all() and (found[0, 0, :15] == 0).all() and (found[0, 0, :, :42] == 0).all()
    assert torch.equal(guide_maps(magnitude, (128, 172)), guide_maps(magnitude, None))


def test_frames_without_residual_stay_zero_and_have_no_wild_gradient() -> None:
    residual = torch.zeros(1, 3, 3, 16, 22, requires_grad=True)
    residual.data[:, :, 1] = 5
    maps = guide_maps(residual, None)
    assert maps[0, :, 0, 0].tolist() == [0, 1, 0]
    maps.sum().backward()
    assert residual.grad is not None and residual.grad.isfinite().all()


def test_the_busiest_place_is_the_objects() -> None:
    """A square of noise on weak noise: its middle, to a pixel of the map; nothing at all: the frame's middle."""
    maps = torch.rand(3, 4, 32, 43) * 0.1
    for clip, (x, y) in zip(maps, ((10, 6), (30, 20), (24, 25)), strict=True):
        clip[:, y : y + 6, x : x + 8] = 0.5 + torch.rand(4, 6, 8) / 2
    expected = torch.tensor([[14 / 43, 9 / 32], [34 / 43, 23 / 32], [28 / 43, 28 / 32]]) * 2 - 1
    torch.testing.assert_close(busiest_place(maps, 0.4), expected, rtol=0, atol=2.01 / 32)
    assert busiest_place(torch.zeros(2, 4, 8, 9), 0.4).tolist() == [[0, 0]] * 2
    assert busiest_place(torch.rand(1, 4, 5, 5), 0.0).shape == (1, 2)


# LNet.


def test_lnet_has_torchvisions_layout() -> None:
    own, theirs = LNet(16, 1).state_dict(), torchvision.models.efficientnet_b0(num_classes=1).state_dict()
    assert list(own) == list(theirs)
    assert own["features.0.0.weight"].shape == (32, 16, 3, 3)
    assert [name for name in own if own[name].shape != theirs[name].shape] == ["features.0.0.weight"]


def test_lnet_begins_at_zero() -> None:
    lnet = LNet(NUM_FRAMES, 5)
    assert torch.equal(lnet(torch.rand(2, NUM_FRAMES, 32, 43)), torch.zeros(2, 5))


def test_imagenets_features_see_equal_maps_as_a_grey_picture() -> None:
    pretrained = torchvision.models.efficientnet_b0().eval()
    lnet = LNet(16, 3)
    nn.init.ones_(lnet.classifier[1].bias)
    lnet.load_imagenet(pretrained.state_dict())
    lnet.eval()
    grey = torch.rand(2, 1, 32, 43)
    torch.testing.assert_close(
        lnet.features(grey.expand(-1, 16, -1, -1)), pretrained.features(grey.expand(-1, 3, -1, -1))
    )
    assert torch.equal(lnet(grey.expand(-1, 16, -1, -1)), torch.ones(2, 3))  # the head is its own


def test_other_weights_than_lnets_are_refused() -> None:
    state = torchvision.models.efficientnet_b0().state_dict()
    del state["features.0.0.weight"]
    with pytest.raises(WeightsError, match=r"1 missing \(features\.0\.0\.weight\)"):
        LNet(4).load_imagenet(state)
    with pytest.raises(WeightsError, match="torchvision's efficientnet_b0"):
        LNet(4).load_imagenet(torchvision.models.mobilenet_v2().state_dict())


def test_lnets_cost() -> None:
    """The paper's 0.006 is that of maps of 16x22, not of the 64x86 that it names."""
    with torch.device("meta"):
        lnet = LNet(16).eval()
        large, middle, small = (
            count_flops(lnet, torch.rand(1, 16, *size))[""] for size in ((64, 86), (32, 43), (16, 22))
        )
    assert large.macs / 1e9 == pytest.approx(0.0515, rel=0.01)
    costs = [cost.operations / 1e9 for cost in (large, middle, small)]
    assert costs == pytest.approx([0.0533, 0.0152, 0.0060], rel=0.01)


# The crops.


@pytest.mark.parametrize("parameters", KINDS)
def test_training_begins_at_the_baselines_crop(parameters: Parameters) -> None:
    frames, residual = clips()
    expected = FixedZoom(size=8).eval()(frames)
    assert torch.equal(zoom_of(parameters)(frames, residual), expected)


def test_training_begins_with_the_baselines_draws() -> None:
    frames, residual = clips()
    zoom, baseline = zoom_of().train(), FixedZoom(size=8, shear=0.1).train()
    zoom.lnet.eval()  # whose dropout would draw before
    torch.manual_seed(3)
    expected = baseline(frames)
    torch.manual_seed(3)
    assert torch.equal(zoom(frames, residual), expected)


@pytest.mark.parametrize("parameters", KINDS)
def test_what_is_not_predicted_stays_zero(parameters: Parameters) -> None:
    zoom = with_opinions(zoom_of(parameters))
    frames, residual = clips()
    crop = zoom.crop(frames, residual)
    assert crop.scale.std() > 1e-3
    assert bool(crop.position.std(0).gt(1e-3).all()) == ("translation" in parameters or parameters == "all")
    assert bool(crop.shear.std(0).gt(1e-3).all()) == ("shear" in parameters or parameters == "all")
    assert bool(crop.position.any()) == ("translation" in parameters or parameters == "all")
    assert bool(crop.shear.any()) == ("shear" in parameters or parameters == "all")
    assert zoom.lnet.classifier[1].out_features == NUM_FREE[parameters]


@given(raw=st.lists(st.floats(-1e4, 1e4), min_size=5, max_size=5))
def test_predictions_stay_within_the_limits(raw: list[float]) -> None:
    given_ = torch.tensor(raw, requires_grad=True)
    moved = _within(given_, 0.6, 0.3)
    assert (moved >= -0.6).all() and (moved <= 0.3).all()
    moved.sum().backward()  # type: ignore[no-untyped-call]
    assert given_.grad is not None and given_.grad.isfinite().all()
    small = given_.abs() < 1e-3
    torch.testing.assert_close(moved[small], given_[small], rtol=1e-3, atol=1e-9)  # the slope begins at 1


@pytest.mark.parametrize(("raw", "scale", "other", "shear"), [(-1e5, 0.3, -1, -0.5), (1e5, 1.2, 1, 0.5)])
def test_limits_are_those_of_the_arguments(raw: float, scale: float, other: float, shear: float) -> None:
    nn.init.constant_(LIMITED.lnet.classifier[1].bias, raw)
    crop = LIMITED.crop(torch.empty(1, 3, 1, 12, 16), torch.ones(1, 1, NUM_FRAMES, 8, 8))
    assert crop.scale.tolist() == pytest.approx([scale])
    assert crop.position.tolist() == [[other] * 2] and crop.shear.tolist() == [[shear] * 2]


def test_gradients_reach_lnet_as_finite_differences_say() -> None:
    zoom = with_opinions(zoom_of("all")).double()
    weights, bias = zoom.lnet.classifier[1].weight.detach(), zoom.lnet.classifier[1].bias.detach().clone()
    frames, residual = torch.rand(2, 1, 2, 12, 16, dtype=torch.float64), clips(2)[1].double()
    importance = torch.rand(2, 1, 2, 8, 8, dtype=torch.float64)

    def run(column: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        weight = torch.cat((column[:, None], weights[:, 1:]), 1)
        state = {"lnet.classifier.1.weight": weight, "lnet.classifier.1.bias": bias}
        result: torch.Tensor = torch.func.functional_call(zoom, state, (frames, residual))
        return (result * importance).sum()

    column = weights[:, 0].clone().requires_grad_()
    assert torch.autograd.gradcheck(run, (column, bias.requires_grad_()), eps=1e-7, atol=1e-5)


def test_clips_do_not_depend_on_their_batch_mates() -> None:
    zoom = with_opinions(zoom_of("all"))
    frames, residual = clips()
    together = zoom(frames, residual)
    for number in range(3):
        alone = zoom(frames[number : number + 1], residual[number : number + 1])
        torch.testing.assert_close(together[number : number + 1], alone, rtol=1e-4, atol=1e-2)  # of 0 to 255


def test_a_guide_of_zeros_gives_a_crop() -> None:
    zoom = with_opinions(zoom_of("all"))
    frames, residual = clips()
    assert zoom(frames, torch.zeros_like(residual)).isfinite().all()


def test_frames_of_bytes_and_floats_of_any_layout_are_cropped_alike() -> None:
    zoom = with_opinions(zoom_of())
    frames, residual = clips()
    expected = zoom(frames, residual)
    assert expected.dtype == torch.float32
    assert torch.equal(zoom(frames.float(), residual), expected)
    assert torch.equal(zoom(frames.contiguous(memory_format=torch.channels_last_3d), residual), expected)
    assert zoom(frames[:, :, :2], residual).shape == (3, 3, 2, 8, 8)  # as many frames as there are


def test_autocast_rounds_no_more_than_what_is_predicted() -> None:
    zoom = with_opinions(zoom_of("all"))
    nn.init.zeros_(zoom.lnet.classifier[1].weight)
    frames, residual = clips()
    expected = zoom(frames, residual)
    with torch.autocast("cpu", torch.bfloat16):
        found = zoom(frames, residual)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, expected, rtol=0, atol=2.0)  # of 255: a hundredth of a pixel


@pytest.mark.slow
@pytest.mark.parametrize("part", ["lnet", "zoom"])
def test_one_graph_compiles_and_is_exported(part: str, tmp_path: Path) -> None:
    zoom = with_opinions(zoom_of("all"))
    frames, residual = clips(2, 32, 43)
    network, inputs = {"lnet": (zoom.lnet, (guide_maps(residual, (32, 43)),)), "zoom": (zoom, (frames, residual))}[part]
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the compiler's and the exporter's own
        expected = network(*inputs)
        compiled = torch.compile(network, fullgraph=True, backend="aot_eager")
        torch.testing.assert_close(compiled(*inputs), expected, rtol=1e-4, atol=1e-2)  # of 0 to 255
        torch.onnx.export(network, inputs, tmp_path / "a.onnx", dynamo=True, verbose=False)
    session = onnxruntime.InferenceSession(tmp_path / "a.onnx", providers=["CPUExecutionProvider"])
    names = [entry.name for entry in session.get_inputs()]
    (found,) = session.run(None, dict(zip(names, (value.numpy() for value in inputs), strict=True)))
    torch.testing.assert_close(torch.from_numpy(found), expected, rtol=1e-4, atol=1e-2)


@pytest.mark.parametrize("parameters", KINDS)
@pytest.mark.parametrize("is_training", [False, True])
def test_a_crop_around_the_guides_busiest_place(parameters: Parameters, is_training: bool) -> None:
    """Wherever something happens in frames of any aspect, the crop's middle is there, or the crop is at the edge."""
    zoom = zoom_of(parameters, centre="guide", start=0.4).train(is_training)
    zoom.lnet.eval()
    residual = torch.zeros(3, 1, NUM_FRAMES, 32, 43)
    for clip, (x, y) in zip(residual, ((20, 15), (2, 15), (38, 28)), strict=True):
        clip[:, :, y : y + 3, x : x + 3] = 9
    corners = zoom.crop(torch.empty(3, 3, 1, 96, 129), residual).corners(96, 129)
    middles = torch.tensor([[64.5, 49.5], [19.2, 49.5], [129 - 19.2, 96 - 19.2]])
    torch.testing.assert_close(corners.mean(1), middles, rtol=0, atol=1e-3)
    torch.testing.assert_close(corners[:, 2] - corners[:, 0], torch.full((3, 2), 0.4 * 96))
    assert not zoom.draw_position


@pytest.mark.parametrize("is_training", [False, True])
def test_what_learns_nothing_stands_where_what_learns_begins(is_training: bool) -> None:
    frames, residual = clips()
    learning = zoom_of("all", centre="guide", start=0.4).train(is_training)
    learning.lnet.eval()
    guided = GuidedZoom(size=8, scale=0.4, guide_size=(32, 43)).train(is_training)
    for found, expected in zip(guided.crop(frames, residual), learning.crop(frames, residual), strict=True):
        torch.testing.assert_close(found, expected)
    assert list(guided.parameters()) == [] and not guided.draw_position and guided.draw_shear
    nothing = guided.crop(frames, torch.zeros_like(residual))
    assert nothing.position.tolist() == [[0, 0]] * 3


@pytest.mark.parametrize("make", [FixedZoom, GuidedZoom, AdaptiveZoom])
def test_what_is_shrunk_is_smoothed_unless_that_is_not_wanted(make: type) -> None:
    """A chessboard of pixels, shrunk four times, turns grey; with bilinear sampling alone it does not."""
    board = (torch.arange(64)[:, None] + torch.arange(64)) % 2 * 255.0
    frames, guide = board.expand(1, 3, NUM_FRAMES, 64, 64), torch.ones(1, 1, NUM_FRAMES, 64, 64)
    more = {"start": 0.97} if make is AdaptiveZoom else {"scale": 0.97}
    more |= {"num_frames": NUM_FRAMES} if make is AdaptiveZoom else {}
    contrasts = [
        (make(size=16, antialias=antialias, **more).eval()(frames, guide) - 127.5).abs().mean()
        for antialias in (True, False)
    ]
    assert contrasts[0] < 0.2 * contrasts[1]
    assert contrasts[1] > 20


# What is drawn in training.


def drawn(zoom: AdaptiveZoom | FixedZoom, num_clips: int = 500) -> Crop:
    crop = Crop(torch.full((num_clips,), 0.5), torch.zeros(num_clips, 2), torch.zeros(num_clips, 2))
    return zoom._drawn(crop)


@pytest.mark.parametrize("parameters", KINDS)
def test_what_is_not_predicted_is_drawn_in_training(parameters: Parameters) -> None:
    crop = drawn(zoom_of(parameters))
    is_moved = parameters in ("scale", "scale+shear")
    is_sheared = parameters in ("scale", "scale+translation")
    assert torch.equal(crop.scale, torch.full((500,), 0.5))
    if is_moved:
        assert crop.position.min() < -0.95 and crop.position.max() > 0.95 and crop.position.abs().max() <= 1
        assert crop.position.mean(0).abs().max() < 0.1
    if is_sheared:
        assert crop.shear.min() < -0.095 and crop.shear.max() > 0.095 and crop.shear.abs().max() <= 0.1
    assert bool(crop.position.any()) == is_moved and bool(crop.shear.any()) == is_sheared
    off = drawn(zoom_of(parameters, augment=False))
    assert not off.position.any() and not off.shear.any()


def test_draws_come_in_training_alone_and_from_the_seed() -> None:
    frames, residual = clips()
    zoom = zoom_of()
    expected = zoom(frames, residual)
    assert torch.equal(zoom(frames, residual), expected)
    zoom.train()
    torch.manual_seed(1)
    one, other = zoom(frames, residual), zoom(frames, residual)
    torch.manual_seed(1)
    assert torch.equal(zoom(frames, residual), one)
    assert not torch.equal(one, other) and not torch.equal(one, expected)


@pytest.mark.parametrize("fraction", [0.925, 0.875, 0.8, 0.75, 0.6])
def test_the_papers_central_crops(fraction: float) -> None:
    """Table 7's fractions of a ramp: what is seen lies around the middle, as wide as the fraction says."""
    ramp = torch.arange(40.0).expand(40, 40)[None, None, None] + 0.5
    seen = FixedZoom(size=40, scale=fraction).eval()(ramp)[0, 0, 0, 0]
    torch.testing.assert_close(seen, 20 + (torch.arange(40.0) + 0.5 - 20) * fraction, rtol=0, atol=1e-4)


def test_the_papers_random_crop_is_drawn_in_evaluation_too() -> None:
    zoom = FixedZoom(size=8, scale=(0.8, 1.0), anywhere=True).eval()
    crop = zoom.crop(torch.empty(500, 3, 1, 12, 16))
    assert crop.scale.min() >= 0.8 and crop.scale.min() < 0.81 and crop.scale.max() <= 1 and crop.scale.max() > 0.99
    assert crop.position.min() < -0.95 and crop.position.max() > 0.95
    assert FixedZoom(size=8).eval().crop(torch.empty(2, 3, 1, 12, 16)).position.tolist() == [[0, 0]] * 2


# In front of a network.


def test_it_learns_with_the_network_behind_it() -> None:
    zoom, network = AdaptiveZoom(size=16, num_frames=NUM_FRAMES, guide_size=(32, 43)), BACKBONES["r3d_18"].build(3)
    optimiser = torch.optim.SGD([*zoom.parameters(), *network.parameters()], lr=0.01)
    frames, residual = clips(3, 24, 32)
    frames[:, :, :, 6:18, 8:24] //= 4  # what is seen depends on the scale
    before = {key: value.clone() for key, value in zoom.state_dict().items()}
    for _ in range(2):  # the first step moves the head alone, since it is zero
        loss = nn.functional.cross_entropy(network(zoom(frames, residual) / 255), torch.tensor([0, 1, 2]))
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    for key in ("lnet.features.0.0.weight", "lnet.classifier.1.weight"):
        assert not torch.equal(zoom.state_dict()[key], before[key])


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: AdaptiveZoom(size=8, parameters="zoom"), "parameters=zoom: must be among scale, "),  # type: ignore[arg-type]
        (lambda: AdaptiveZoom(size=8, centre="middle"), "centre=middle: must be frame or guide; choose one"),  # type: ignore[arg-type]
        (lambda: AdaptiveZoom(size=8, start=1.3), "start=1.3, limits"),
        (lambda: AdaptiveZoom(size=8, limits=(0.0, 1.2)), "limits"),
        (lambda: FixedZoom(size=8, scale=(1.0, 0.8)), "scale="),
        (lambda: FixedZoom(size=8, scale=0), "scale=0"),
        (lambda: FixedZoom(size=0), "size=0: must be a positive integer"),
        (lambda: AdaptiveZoom(size=8.5), "size=8.5: must be a positive integer"),  # type: ignore[arg-type]
        (lambda: GuidedZoom(size=8, scale=0), "scale=0: must be above 0"),
        (lambda: GuidedZoom(size=8, scale=0.5)(clips()[0]), "guide=None: GuidedZoom crops where a guide says"),
        (lambda: zoom_of()(*clips()[:1]), "guide=None: must be of num_frames=4"),
        (lambda: zoom_of()(clips()[0], torch.rand(3, 3, 5, 8, 8)), r"guide=\(3, 3, 5, 8, 8\): must be of num_frames=4"),
    ],
)
def test_what_can_not_be_meant_is_refused(make: object, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        make()  # type: ignore[operator]
