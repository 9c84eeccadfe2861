"""``vidprep export --backbone``: the store holds what the network gives, whoever runs it, with its weights' hash."""

import hashlib
import importlib.metadata
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image
from runs import vidprep
from small_exports import entries_of, export, extracted, map_here
from torchvision.transforms import functional

from vidprep.dataset.arrays import to_tensor
from vidprep.engines import ENGINES
from vidprep.errors import FeatureError, UsageError
from vidprep.features import ArrayKind, FeatureStore
from vidprep.modalities import MODALITIES
from vidprep.modalities.clip import read_clip
from vidprep.models.backbones import BACKBONES, IMAGENET_MEAN, IMAGENET_STD, load_backbone
from vidprep.pipelines.export_backbone import NETWORKS, BackboneOutputs, centre_view, weights_sha256
from vidprep.pipelines.export_options import Options

RANDOM = ("--backbone", "mobilenet_v2", "--weights", "random:0", "--frames", "uniform:2")


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return extracted(tmp_path_factory.mktemp("extracted"), "bitstream", ("rgb",), "340x256")


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    """As in workers: sums over several threads may be in another order."""
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(ENGINES, "local", map_here)
        yield
    torch.set_num_threads(num_threads)


@pytest.fixture(scope="module")
def store(shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[FeatureStore]:
    to = tmp_path_factory.mktemp("store") / "features.h5"
    export(shards, to, *RANDOM, "--outputs", "maps,pooled", "--dtype", "float32")
    with FeatureStore(to) as store:
        yield store


def network(name: str = "mobilenet_v2", seed: int = 7, num_classes: int = 1000) -> torch.nn.Module:
    """Torchvision's own, whose weights a backbone can load."""
    torch.manual_seed(seed)
    built: torch.nn.Module = getattr(torchvision.models, name)(num_classes=num_classes)
    return built.eval()


def checkpoint(path: Path, state: Any) -> Path:
    torch.save(state, path)
    return path


class TestTable:
    @pytest.mark.parametrize("name", NETWORKS)
    def test_outputs_lead_to_torchvisions_own_logits(self, name: str, tmp_path: Path, shards: Path) -> None:
        net = network(name)
        weights = checkpoint(tmp_path / "a.pth", net.state_dict())
        options = Options(backbone=name, weights=str(weights), outputs=("maps", "pooled"), dtype="float32")
        entries, facts = next(iter(entries_of(shards).values()))
        found = {
            key: torch.from_numpy(array) for key, array in BackboneOutputs(options).read(entries, facts, [0, 3]).items()
        }
        view = centre_view(facts["width"], facts["height"], 256, 224)
        rgb = read_clip(entries, facts, [0, 3], ("rgb",), crop=view.crop)["rgb"]
        pictures = torch.from_numpy(rgb).permute(0, 3, 1, 2) / 255
        with torch.inference_mode():
            expected = net(functional.normalize(pictures, list(IMAGENET_MEAN), list(IMAGENET_STD)))
            head = net.get_submodule("fc" if name == "resnet50" else "classifier")
            torch.testing.assert_close(head(found["maps"].mean((2, 3))), expected, rtol=1e-4, atol=1e-4)
            torch.testing.assert_close(head(found["pooled"]), expected, rtol=1e-4, atol=1e-4)

    def test_networks_on_clips_are_not_offered(self) -> None:
        for name in set(BACKBONES) - set(NETWORKS):
            with pytest.raises(UsageError, match=f"backbone={name}: must be one of mobilenet_v2, resnet50, eff"):
                BackboneOutputs(Options(backbone=name, weights="random:0"))

    @pytest.mark.parametrize("name", NETWORKS)
    def test_preparation_is_that_of_torchvisions_weights(self, name: str) -> None:
        transform = torchvision.models.get_model_weights(name)["IMAGENET1K_V1"].transforms()
        backbone = BACKBONES[name]
        assert (list(backbone.mean), list(backbone.std)) == (transform.mean, transform.std)
        assert ([backbone.short_side], [backbone.input_size]) == (transform.resize_size, transform.crop_size)
        assert (backbone.mean, backbone.std) == (IMAGENET_MEAN, IMAGENET_STD)


class TestOutputs:
    def test_are_those_of_torchvision_on_pillows_pictures(self, shards: Path, store: FeatureStore) -> None:
        """Written without anything of vidprep but the decoded frames."""
        torch.manual_seed(0)
        net = torchvision.models.mobilenet_v2().eval()
        torch.nn.Linear(1280, 1000)  # the head's numbers are drawn before the convolutions' final ones
        for module in net.modules():
            if isinstance(module, torch.nn.Conv2d):
                torch.nn.init.kaiming_normal_(module.weight, mode="fan_in", nonlinearity="relu")
        for key, (entries, facts) in list(entries_of(shards).items())[:3]:
            rgb = MODALITIES["rgb"].decode(entries, facts)
            assert rgb is not None and rgb.shape[1:] == (256, 340, 3)
            pictures = [Image.fromarray(rgb[i]) for i in store[key].facts["frame_indices"]]
            crops = [functional.to_tensor(functional.center_crop(picture, [224, 224])) for picture in pictures]
            batch = functional.normalize(torch.stack(crops), list(IMAGENET_MEAN), list(IMAGENET_STD))
            with torch.inference_mode():
                maps = net.features(batch)
            np.testing.assert_allclose(store[key]["maps"][:], maps, rtol=1e-4, atol=1e-4)
            np.testing.assert_allclose(store[key]["pooled"][:], maps.mean((2, 3)), rtol=1e-4, atol=1e-4)

    def test_the_view_is_in_the_centre(self) -> None:
        """Pictures of 340x256, the field's size, are only cut; of others the part is whole pixels."""
        assert centre_view(340, 256, 256, 224).crop == (58, 16, 224, 224)
        assert not centre_view(340, 256, 256, 224).is_resized
        for width, height in ((64, 48), (320, 240), (1920, 1080), (240, 320), (224, 224)):
            x, y, box_width, box_height = centre_view(width, height, 256, 224).crop
            scale = min(width, height) / 256
            assert abs(x - (width - box_width) / 2) <= 1 + scale / 2
            assert abs(y - (height - box_height) / 2) <= 1 + scale / 2
            assert abs(box_width - 224 * scale) <= 2
            assert abs(box_height - 224 * scale) <= 2

    def test_other_sizes_are_scaled_as_pillow_does(self) -> None:
        """A smooth picture, so that the rounding of the part to whole pixels does little."""
        across, down = np.meshgrid(np.linspace(0, 255, 200), np.linspace(0, 255, 150))
        picture = np.stack([across, down, (across + down) / 2], axis=2).astype(np.uint8)
        view = centre_view(200, 150, 256, 224)
        x, y, width, height = view.crop
        found = to_tensor("rgb", picture[None, y : y + height, x : x + width], view, resizes=True)[:, 0]
        scaled = Image.fromarray(picture).resize((341, 256), Image.Resampling.BILINEAR)
        expected = functional.pil_to_tensor(functional.center_crop(scaled, [224, 224]))
        assert (found.int() - expected.int()).abs().max() <= 3

    def test_kinds_and_recipe(self, store: FeatureStore) -> None:
        assert store.kinds == {
            "maps": ArrayKind("float32", ("frames", "channels", "height", "width")),
            "pooled": ArrayKind("float32", ("frames", "channels")),
        }
        key = next(iter(store))
        assert {name: store[key][name].shape for name in store[key]} == {"maps": (2, 1280, 7, 7), "pooled": (2, 1280)}
        made = store.recipe["export"]
        assert made["backbone"] == "mobilenet_v2"
        assert made["frames"] == "uniform:2"
        assert made["dtype"] == "float32"
        assert made["checkpoint_sha256"] == ""
        assert len(made["weights_sha256"]) == 64
        assert store.recipe["tools"]["torch"] == importlib.metadata.version("torch")

    def test_float16_is_the_default_and_rounds(self, shards: Path, store: FeatureStore, tmp_path: Path) -> None:
        export(shards, tmp_path / "half.h5", *RANDOM, "--outputs", "pooled")
        with FeatureStore(tmp_path / "half.h5") as half:
            for key in store:
                np.testing.assert_array_equal(
                    half[key]["pooled"][:], store[key]["pooled"][:].astype(np.float16), strict=True
                )

    def test_random_weights_say_something_about_the_pictures(self, store: FeatureStore) -> None:
        pooled = np.stack([store[key]["pooled"][0] for key in store])
        assert 0.1 < pooled.std() < 10
        assert np.abs(np.diff(pooled, axis=0)).mean() > 0.01

    def test_same_bytes_with_two_workers_and_in_parts(self, shards: Path, store: FeatureStore, tmp_path: Path) -> None:
        options = (*RANDOM, "--outputs", "maps,pooled", "--dtype", "float32", "--workers", 2)
        result = vidprep("export", shards, "--to", tmp_path / "two.h5", *options)
        assert (result.returncode, result.stderr) == (0, "")
        assert (tmp_path / "two.h5").read_bytes() == store.path.read_bytes()

    def test_of_a_long_video_are_those_of_its_frames(self, shards: Path) -> None:
        """Batches hold the frames of one video alone, so only their own number may matter, by rounding."""
        entries, facts = next(iter(entries_of(shards).values()))
        source = BackboneOutputs(
            Options(backbone="mobilenet_v2", weights="random:0", outputs=("pooled",), dtype="float32")
        )
        whole = source.read(entries, facts, range(5))["pooled"]
        single = np.concatenate([source.read(entries, facts, [i])["pooled"] for i in range(5)])
        np.testing.assert_allclose(whole, single, rtol=1e-4, atol=1e-5)

    @pytest.mark.parametrize(
        ("factor", "said"), [(10, "maps: 0 to .* doesn't fit into float16"), (1e-9, "maps: .* doesn't fit")]
    )
    def test_numbers_that_float16_does_not_hold_are_refused(
        self, shards: Path, tmp_path: Path, factor: float, said: str
    ) -> None:
        net = network("resnet50")
        with torch.no_grad():
            for parameter in net.get_submodule("layer4").parameters():
                parameter *= factor
        path = checkpoint(tmp_path / "a.pth", net.state_dict())
        entries, facts = next(iter(entries_of(shards).values()))
        with pytest.raises(FeatureError, match=said):
            BackboneOutputs(Options(backbone="resnet50", weights=str(path))).read(entries, facts, [0])


class TestWeights:
    def options(self, weights: object, name: str = "mobilenet_v2") -> Options:
        return Options(backbone=name, weights=str(weights), outputs=("pooled",), dtype="float32")

    def test_of_a_file(self, shards: Path, tmp_path: Path) -> None:
        net = network()
        path = checkpoint(tmp_path / "a.pth", net.state_dict())
        source = BackboneOutputs(self.options(path))
        made = source.describe()
        assert made["checkpoint_sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
        assert made["weights_sha256"] == weights_sha256(load_backbone("mobilenet_v2", 1000, path))
        entries, facts = next(iter(entries_of(shards).values()))
        other = BackboneOutputs(self.options("random:7"))
        assert not np.array_equal(source.read(entries, facts, [0])["pooled"], other.read(entries, facts, [0])["pooled"])

    def test_in_the_wrappings_that_trainers_use(self, tmp_path: Path) -> None:
        state = network().state_dict()
        plain = checkpoint(tmp_path / "a.pth", state)
        wrapped = {"state_dict": {f"module.{name}": value for name, value in state.items()}, "epoch": 3}
        digests = {
            BackboneOutputs(self.options(path)).describe()["weights_sha256"]
            for path in (plain, checkpoint(tmp_path / "b.pth", wrapped))
        }
        assert digests == {weights_sha256(load_backbone("mobilenet_v2", 1000, plain))}

    def test_the_hash_tells_any_weight_and_any_seed(self) -> None:
        net = network()
        before = weights_sha256(net)
        assert before == weights_sha256(network()) != weights_sha256(network(seed=8))
        with torch.no_grad():
            net.get_buffer("features.0.1.running_mean")[3] += 1
        assert weights_sha256(net) != before
        seeds = [BackboneOutputs(self.options(f"random:{seed}")).describe()["weights_sha256"] for seed in (0, 0, 1)]
        assert seeds[0] == seeds[1] != seeds[2]

    def test_random_weights_leave_the_callers_generator_alone(self) -> None:
        torch.manual_seed(5)
        expected = torch.rand(3)
        torch.manual_seed(5)
        BackboneOutputs(self.options("random:0"))
        assert torch.equal(torch.rand(3), expected)

    def test_other_weights_make_the_store_stale(self, shards: Path, store: FeatureStore, tmp_path: Path) -> None:
        with pytest.raises(FeatureError, match=r"export\.weights_sha256='00': it has"):
            store.expect({"export": {"weights_sha256": "00"}})
        other = [option.replace("random:0", "random:1") for option in RANDOM]
        errors = export(shards, store.path, *other, "--outputs", "maps,pooled", "--dtype", "float32", status=1).stderr
        assert "the store was made in another way: wanted is export.weights_sha256='" in errors

    @pytest.mark.parametrize(
        ("state", "said"),
        [
            ({"a": torch.zeros(1)}, r"262 missing \(frames\.0\.0\.weight, .* and 257 more\); 1 unexpected \(a\)"),
            (torchvision.models.resnet50, r"not those of mobilenet_v2: 26\d missing .*; give its own, or random:SEED"),
            ([1, 2], "holds no state dict; give the file of a state dict"),
            ({"a": 1}, "holds no state dict"),
            (torch.nn.Linear(1, 1), "can't be read"),
        ],
    )  # fmt: skip
    def test_files_that_hold_something_else(self, tmp_path: Path, state: Any, said: str) -> None:
        path = checkpoint(
            tmp_path / "a.pth",
            state().state_dict() if callable(state) and not isinstance(state, torch.nn.Module) else state,
        )
        with pytest.raises(UsageError, match=said):
            BackboneOutputs(self.options(path))

    def test_another_number_of_classes(self, tmp_path: Path) -> None:
        path = checkpoint(tmp_path / "a.pth", network(num_classes=5).state_dict())
        with pytest.raises(UsageError, match="are for 5 classes, and the network has 1000; give weights for 1000"):
            BackboneOutputs(self.options(path))

    def test_no_file_and_damaged_files(self, tmp_path: Path) -> None:
        with pytest.raises(UsageError, match=r"none\.pth: No such file or directory; give the file .*, or random:SEED"):
            BackboneOutputs(self.options(tmp_path / "none.pth"))
        data = checkpoint(tmp_path / "a.pth", network().state_dict()).read_bytes()
        for damaged in (b"", b"text", data[:1000], data[: len(data) // 2]):
            (tmp_path / "b.pth").write_bytes(damaged)
            with pytest.raises(UsageError, match=r"weights=.*b\.pth: can't be read"):
                BackboneOutputs(self.options(tmp_path / "b.pth"))

    @pytest.mark.parametrize("weights", ["random:", "random:x", "random:-1", f"random:{1 << 64}"])
    def test_bad_seeds(self, weights: str) -> None:
        with pytest.raises(UsageError, match="must be random: and a whole number, such as random:0, or a file"):
            BackboneOutputs(self.options(weights))

    def test_by_the_command_line(self, shards: Path, tmp_path: Path) -> None:
        errors = export(
            shards, tmp_path / "a.h5", "--backbone", "resnet50", "--weights", tmp_path / "no.pth", status=2
        ).stderr
        assert f"vidprep: error: weights={tmp_path}/no.pth: No such file or directory" in errors
        assert not list(tmp_path.iterdir())

    @pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
    def test_no_gpu(self) -> None:
        with pytest.raises(UsageError, match="device=cuda: PyTorch finds none here; leave out --device"):
            BackboneOutputs(Options(backbone="resnet50", weights="random:0", device="cuda"))
