"""The tests' own filling of weights is that of the stored oracles."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
from networks import filled_clip, filled_tensor

CASES = {
    "stem.conv.weight": (8, 3, 5, 7, 7),
    "head.projection.weight": (5, 7),
    "head.projection.bias": (5,),
    "gru.bias_ih_l0": (6,),
    "stem.norm.weight": (9,),
    "stem.norm.bias": (9,),
    "stem.norm.running_mean": (9,),
    "stem.norm.running_var": (9,),
    "stem.norm.num_batches_tracked": (),
}


@pytest.mark.parametrize("name", CASES)
def test_a_filled_tensor_is_that_of_the_stored_oracles(name: str, shared: Path) -> None:
    path = shared / "golden" / "official" / "fill.py"
    if not path.is_file():
        pytest.skip(f"no {path}")
    spec = importlib.util.spec_from_file_location("official_fill", path)
    assert spec is not None and spec.loader is not None
    official = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(official)
    np.testing.assert_array_equal(filled_tensor(name, CASES[name]).numpy(), official.fill_tensor(name, CASES[name]))
    np.testing.assert_array_equal(filled_clip(name, 1, 3, 2, 4, 4).numpy(), official.make_input(name, (1, 3, 2, 4, 4)))
