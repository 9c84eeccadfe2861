"""What is counted for each kind of layer, against formulas written out; and that counting changes nothing."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from vidprep.errors import UsageError
from vidprep.pipelines.flops import Cost, FlopCount, count_flops, mean_flops, table


def total(network: nn.Module, *inputs: Any, **more: Any) -> tuple[float, float]:
    cost = count_flops(network, *inputs, **more)[""]
    return cost.macs, cost.operations


class Calls(nn.Module):
    """Modules by name, and what is done with them."""

    def __init__(self, forward: Callable[..., Any], **modules: nn.Module) -> None:
        super().__init__()
        self.does = forward
        for name, module in modules.items():
            self.add_module(name, module)

    def forward(self, *inputs: Any) -> Any:
        return self.does(self, *inputs)


LAYERS: list[tuple[nn.Module, tuple[int, ...], int, int]] = [
    # The layer, its input, and for a sample: multiply-adds (C1), and all operations (C2).
    (nn.Conv2d(3, 5, 3), (2, 3, 8, 8), 36 * 5 * 27, 36 * 5 * 28),
    (nn.Conv2d(4, 8, 3, stride=2, padding=1, groups=4, bias=False), (2, 4, 8, 8), 16 * 8 * 9, 16 * 8 * 9),
    (nn.Conv3d(2, 3, (1, 2, 3), dilation=2), (1, 2, 4, 9, 9), 4 * 7 * 5 * 3 * 12, 4 * 7 * 5 * 3 * 13),
    (nn.Conv1d(3, 2, 5), (2, 3, 9), 5 * 2 * 15, 5 * 2 * 16),
    (nn.ConvTranspose2d(3, 5, 2, stride=2), (2, 3, 4, 4), 3 * 16 * 5 * 4, 3 * 16 * 5 * 4 + 5 * 64),
    (nn.Linear(7, 4), (2, 7), 28, 28),
    (nn.Linear(7, 4), (2, 5, 7), 140, 140),
    (nn.BatchNorm3d(3), (2, 3, 4, 5, 6), 0, 2 * 360),
    (nn.BatchNorm1d(3), (2, 3), 0, 6),
    (nn.ReLU(), (2, 30), 0, 30),
    (nn.ReLU6(), (2, 3, 4), 0, 12),
    (nn.MaxPool3d(2), (2, 3, 4, 4, 4), 0, 192),
    (nn.AdaptiveAvgPool2d(1), (2, 3, 4, 5), 0, 60),
    (nn.Sigmoid(), (2, 9), 0, 0),
    (nn.SiLU(), (2, 9), 0, 0),
    (nn.Softmax(1), (2, 9), 0, 0),
    (nn.LayerNorm(9), (2, 9), 0, 0),
    # A GRU's step: METHODS' 3h*in + 3h*h + h + 3h + 3h + (3h + 3h).
    (nn.GRU(5, 7, batch_first=True), (2, 4, 5), 4 * (105 + 147), 4 * (105 + 147 + 7 + 21 + 21 + 42)),
    (nn.GRU(5, 7, bias=False, batch_first=True), (2, 4, 5), 4 * (105 + 147), 4 * (105 + 147 + 7 + 21 + 21)),
    (nn.GRU(5, 7, 2, batch_first=True), (2, 4, 5), 4 * (252 + 294), 4 * (252 + 294 + 2 * 91)),
    (nn.GRUCell(5, 7), (2, 5), 252, 252 + 49 + 42),
    # An LSTM's: four gates, 4h sums, 3h for the cell and 3h for the output; both directions of the second layer see 2h.
    (nn.LSTM(5, 7, batch_first=True), (2, 4, 5), 4 * (140 + 196), 4 * (140 + 196 + 70 + 56)),
    (
        nn.LSTM(5, 7, 2, bidirectional=True, batch_first=True),
        (2, 4, 5),
        4 * 2 * (140 + 196 + 392 + 196),
        4 * 2 * (140 + 196 + 392 + 196 + 2 * (70 + 56)),
    ),
    (nn.LSTMCell(5, 7, bias=False), (2, 5), 336, 336 + 70),
    (nn.RNN(5, 7, batch_first=True), (2, 4, 5), 4 * (35 + 49), 4 * (35 + 49 + 7 + 14)),
]


@pytest.mark.parametrize(("layer", "shape", "macs", "operations"), LAYERS, ids=lambda value: str(value)[:40])
@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_a_layer_costs_what_its_formula_says(
    layer: nn.Module, shape: tuple[int, ...], macs: int, operations: int, device: str
) -> None:
    assert total(copy.deepcopy(layer).to(device), torch.zeros(shape, device=device)) == (macs, operations)


@settings(max_examples=30)
@given(
    st.integers(1, 3),
    st.integers(1, 3),
    st.integers(1, 2),
    st.integers(1, 3),
    st.integers(1, 2),
    st.integers(0, 1),
    st.booleans(),
)
def test_a_convolution_costs_its_taps_at_each_place(
    groups: int, widening: int, batch: int, kernel: int, stride: int, padding: int, bias: bool
) -> None:
    conv = nn.Conv2d(2 * groups, widening * groups, kernel, stride, padding, groups=groups, bias=bias, device="meta")
    macs = operations = 0
    for _ in range(widening * groups):
        for _top in range(-padding, 7 + padding - kernel + 1, stride):
            for _left in range(-padding, 6 + padding - kernel + 1, stride):
                macs += 2 * kernel**2
                operations += 2 * kernel**2 + bias
    assert total(conv, torch.zeros(batch, 2 * groups, 7, 6, device="meta")) == (macs, operations)


def test_packed_sequences_cost_the_steps_that_they_have() -> None:
    packed = nn.utils.rnn.pack_sequence([torch.zeros(4, 5), torch.zeros(1, 5)])
    one_step = 252, 252 + 49 + 42
    assert total(nn.GRU(5, 7), packed, num_samples=1) == (5 * one_step[0], 5 * one_step[1])


def test_matrix_products_count_whoever_writes_them() -> None:
    x = torch.zeros(2, 3, 4)
    wanted = (3 * 4 * 3, 0)
    assert total(Calls(lambda _, a: a @ a.mT), x) == wanted
    assert total(Calls(lambda _, a: torch.einsum("bij,bkj->bik", a, a)), x) == wanted
    attention = Calls(lambda _, a: nn.functional.scaled_dot_product_attention(a, a, a))
    assert total(attention, torch.zeros(2, 5, 3, 4)) == (2 * 5 * 3 * 3 * 4, 0)


@pytest.mark.parametrize("training", [True, False])
def test_attention_is_counted_in_evaluation_too_where_it_would_run_as_one_operation(training: bool) -> None:
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True).train(training)
    projections, products, mlp = 4 * 8 * 24 + 4 * 8 * 8, 2 * 4 * 4 * 8, 2 * 4 * 8 * 16
    was_fast = torch.backends.mha.get_fastpath_enabled()
    assert count_flops(layer, torch.zeros(2, 4, 8))[""].macs == projections + products + mlp
    assert torch.backends.mha.get_fastpath_enabled() == was_fast


def block() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(2, 2, 1), nn.BatchNorm2d(2), nn.ReLU())


PICTURES = torch.zeros(4, 2, 3, 3)
BLOCK = (9 * 4, 9 * 6 + 18 * 2 + 18)


class TestModules:
    def test_holders_cost_what_they_hold(self) -> None:
        network = nn.Sequential(block(), nn.Sequential(block(), block()), nn.Flatten(), nn.Linear(18, 5))
        costs = count_flops(network, PICTURES)
        assert {name: (cost.macs, cost.operations) for name, cost in costs.items() if name.count(".") < 2} == {
            "": (3 * BLOCK[0] + 90, 3 * BLOCK[1] + 90),
            "0": BLOCK,
            "0.0": (36, 54),
            "0.1": (0, 36),
            "0.2": (0, 18),
            "1": (2 * BLOCK[0], 2 * BLOCK[1]),
            "1.0": BLOCK,
            "1.1": BLOCK,
            "2": (0, 0),
            "3": (90, 90),
        }
        assert costs["1"].num_parameters == 2 * (6 + 4)
        assert costs[""].num_parameters == 3 * 10 + 95

    def test_one_that_runs_on_parts_of_a_batch_adds_up(self) -> None:
        def in_groups(self: Any, x: torch.Tensor) -> torch.Tensor:
            return torch.cat([self.one(x[:1]), self.one(x[1:3]), self.one(x[3:])])

        costs = count_flops(Calls(in_groups, one=block()), PICTURES)
        assert (costs["one"].macs, costs["one"].operations) == BLOCK == (costs[""].macs, costs[""].operations)
        assert costs["one.0"].macs == BLOCK[0]

    def test_a_list_of_modules_that_is_never_called_itself_costs_what_they_do(self) -> None:
        costs = count_flops(
            Calls(lambda self, x: self.all[1](self.all[0](x)), all=nn.ModuleList([block(), block()])), PICTURES
        )
        assert costs["all"].macs == 2 * BLOCK[0] == costs[""].macs

    def test_a_method_other_than_forward_counts_in_its_module(self) -> None:
        inner = nn.Sequential(block(), block())
        costs = count_flops(Calls(lambda self, x: self.inner[1](x), inner=inner), PICTURES)
        assert costs["inner"].macs == costs["inner.1"].macs == BLOCK[0]
        assert costs["inner.0"].macs == 0

    def test_shared_modules_count_each_call_under_their_first_name(self) -> None:
        one = block()
        costs = count_flops(nn.Sequential(one, nn.Sequential(one), one), PICTURES)
        assert costs[""].macs == costs["0"].macs == 3 * BLOCK[0]
        assert costs[""].num_parameters == 10
        assert "2" not in costs

    def test_what_a_module_does_itself_is_its_own(self) -> None:
        def forward(self: Any, x: torch.Tensor) -> torch.Tensor:
            x = self.first(x)
            return self.last(x @ x)

        inner = Calls(forward, first=block(), last=block())
        costs = count_flops(nn.Sequential(nn.Sequential(inner), block()), PICTURES)
        assert costs["0.0"].macs == 2 * BLOCK[0] + 2 * 27
        assert costs["0.0.first"].macs == costs["0.0.last"].macs == BLOCK[0]
        assert costs[""].macs == 3 * BLOCK[0] + 2 * 27

    def test_compiled_networks_count_as_those_that_they_were_made_of(self) -> None:
        def refuse(*_graph: object) -> Any:
            raise AssertionError("compiled, though operations are counted one by one")

        network = nn.Sequential(block(), nn.Flatten(), nn.Linear(18, 5))
        wanted = total(network, PICTURES)
        assert total(torch.compile(network, backend=refuse), PICTURES) == wanted
        network.compile(backend=refuse)
        assert total(network, PICTURES) == wanted


class TestSamples:
    def test_their_number_is_that_of_the_first_tensor(self) -> None:
        network = Calls(lambda self, batch: self.one(batch["rgb"]), one=block())
        assert total(network, {"key": ["a"] * 4, "rgb": PICTURES}) == BLOCK
        pathways = Calls(lambda self, both: self.one(both[1]), one=block())
        assert total(pathways, [PICTURES, PICTURES]) == BLOCK

    def test_or_is_given(self) -> None:
        assert total(block(), PICTURES, num_samples=2) == (2 * BLOCK[0], 2 * BLOCK[1])

    def test_and_must_be_known(self) -> None:
        with pytest.raises(UsageError, match=r"num_samples=None: the inputs hold no tensor"):
            count_flops(Calls(lambda _, count: torch.zeros(count)), 3)

    def test_data_decide_what_is_counted(self) -> None:
        """Of each clip only the frames that are not black are looked at, as a method that skips frames does."""

        def seen(self: Any, clips: torch.Tensor) -> None:
            for clip in clips:
                bright = clip[clip.amax((1, 2, 3)) > 0]
                if len(bright):
                    self.one(bright)

        batches = [(torch.zeros(2, 3, 2, 3, 3),), (torch.zeros(1, 3, 2, 3, 3),)]
        batches[0][0][0, :2] = 1  # two frames of the first clip
        batches[1][0][0, 1] = 1  # and one of the third
        network = Calls(seen, one=block())
        cost = mean_flops(network, batches)
        assert (cost[""].macs, cost["one"].operations) == (BLOCK[0], BLOCK[1])  # three frames, three clips
        assert mean_flops(network, iter(batches))[""] == cost[""]
        assert count_flops(network, *batches[0])[""].macs == BLOCK[0]
        assert count_flops(network, torch.zeros(2, 3, 2, 3, 3))[""].macs == 0

    def test_none_is_no_mean(self) -> None:
        with pytest.raises(UsageError, match=r"batches=0"):
            mean_flops(block(), [])


class TestNothingChanges:
    @pytest.mark.parametrize("training", [True, False])
    def test_of_the_network(self, training: bool) -> None:
        network = nn.Sequential(block(), nn.Dropout(0.5)).train(training)
        state = {name: value.clone() for name, value in network.state_dict().items()}
        buffers = dict(network.named_buffers())
        random = torch.get_rng_state()
        count_flops(network, torch.randn(4, 2, 3, 3, generator=torch.Generator().manual_seed(0)))
        assert torch.equal(torch.get_rng_state(), random)
        assert all(torch.equal(value, state[name]) for name, value in network.state_dict().items())
        assert all(value is buffers[name] for name, value in network.named_buffers())
        for module in network.modules():
            assert module.training == training
            assert not module._forward_hooks and not module._forward_pre_hooks
        assert all(parameter.grad is None for parameter in network.parameters())

    def test_a_buffer_that_is_replaced_comes_back(self) -> None:
        def forward(self: Any, x: torch.Tensor) -> torch.Tensor:
            self.seen = self.seen + 1
            return self.one(x)

        network = Calls(forward, one=block())
        network.register_buffer("seen", torch.zeros(1))
        seen = network.seen
        count_flops(network, PICTURES)
        assert network.seen is seen and int(seen) == 0

    def test_hooks_go_when_the_network_fails(self) -> None:
        network = block()
        with pytest.raises(RuntimeError):
            count_flops(network, torch.zeros(4, 3, 3, 3))
        assert not any(module._forward_hooks or module._forward_pre_hooks for module in network.modules())
        assert total(network, PICTURES) == BLOCK

    def test_of_the_result_while_it_counts(self) -> None:
        network = nn.Sequential(block(), nn.Flatten(), nn.Linear(18, 5)).eval()
        x = torch.randn(4, 2, 3, 3, generator=torch.Generator().manual_seed(0))
        for amp in (False, True):
            with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=amp):
                wanted = network(x)
                with FlopCount(network) as count:
                    found = torch.cat([network(x[:1]), network(x[1:])])
            torch.testing.assert_close(found, wanted, rtol=1e-2 if amp else 1e-5, atol=1e-2 if amp else 1e-6)
            assert (count.costs(4)[""].macs, count.costs(4)[""].operations) == (BLOCK[0] + 90, BLOCK[1] + 90)

    def test_gradients_flow_while_it_counts_and_are_not_counted_in_it(self) -> None:
        network = block()
        with FlopCount(network) as count:
            loss = network(PICTURES).sum()
        loss.backward()
        assert network[0].weight.grad is not None
        assert count.costs(4)[""].macs == BLOCK[0]


def test_table() -> None:
    costs = {
        "": Cost(3e9, 4.25e9, 1234567),
        "stem": Cost(1e9, 1e9, 7),
        "stem.conv": Cost(1e9, 0.99996e9, 7),
        "head": Cost(2e9, 3.25e9, 0),
    }
    lines = table(costs).splitlines()
    assert lines == [
        "| module | parameters | GMAC (C1) | GFLOP (C2) |",
        "|---|--:|--:|--:|",
        "| stem | 7 | 1.0000 | 1.0000 |",
        "| head | 0 | 2.0000 | 3.2500 |",
        "| total | 1,234,567 | 3.0000 | 4.2500 |",
    ]
    assert table(costs, depth=2).splitlines()[3] == "| stem.conv | 7 | 1.0000 | 1.0000 |"
    assert table(costs, depth=0).splitlines()[2:] == lines[-1:]
