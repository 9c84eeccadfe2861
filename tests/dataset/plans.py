"""Transforms drawn at random whose crops fit, for the tests of views and of arrays."""

from typing import NamedTuple

import numpy as np
from hypothesis import strategies as st

from vidprep.dataset import (
    CenterCrop,
    FiveCrops,
    Flip,
    MultiScaleCrop,
    RandomCrop,
    RandomResizedCrop,
    Resize,
    ShortSide,
    TenCrops,
    ThreeCrops,
    View,
)
from vidprep.dataset.views import Step, num_views, plan_view

CROPS = (RandomCrop, CenterCrop, ThreeCrops, FiveCrops, TenCrops)


class Plan(NamedTuple):
    """A transform, one of its views, and the pictures that it is for."""

    steps: tuple[Step, ...]
    width: int
    height: int
    number: int
    seed: int

    @property
    def view(self) -> View:
        return plan_view(self.steps, self.width, self.height, self.number, np.random.default_rng(self.seed))


@st.composite
def plans(draw: st.DrawFn, sides: st.SearchStrategy[int] | None = None, *, resizes: bool = True) -> Plan:
    """Up to four steps; each crop is at most as large as the picture that the steps before leave."""
    sides = st.integers(1, 400) if sides is None else sides
    width, height, seed = draw(sides), draw(sides), draw(st.integers(0, 2**32))
    rng = np.random.default_rng(seed)
    view, steps, numbers = View.whole(width, height), [], []
    for _ in range(draw(st.integers(0, 4))):
        kind = draw(
            st.sampled_from((*CROPS, Flip, *((ShortSide, Resize, MultiScaleCrop, RandomResizedCrop) * resizes)))
        )
        step: Step
        if kind in CROPS:
            step = kind((draw(st.integers(1, view.width)), draw(st.integers(1, view.height))))
        elif kind is Flip:
            step = Flip(draw(st.sampled_from([0, 0.5, 1])))
        elif kind is Resize:
            step = Resize(draw(sides), draw(sides))
        else:
            step = kind(draw(sides))
        numbers.append(draw(st.integers(0, step.num_views - 1)))
        steps.append(step)
        view = step(view, numbers[-1], rng)
        if max(view.width, view.height) > 3000:  # a narrow strip whose short side grew
            break
    number = 0
    for step, own in reversed(list(zip(steps, numbers, strict=True))):
        number = number * step.num_views + own
    plan = Plan(tuple(steps), width, height, number, seed)
    assert plan.view == view
    assert 0 <= number < num_views(steps)
    return plan
