"""The choice of bfloat16 by measurement: the rule with a clock of the test's own, and on a processor without it."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from collections.abc import Callable

import pytest
import torch

from gmvqzip.models import precision
from gmvqzip.models.precision import fast_bfloat16, faster
from gmvqzip.training.precision import Precision, training_precision

CPU = torch.device("cpu")


class Clock:
    """Time that passes only while something is done."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        monkeypatch.setattr(precision, "_clock", lambda: self.now)

    def taking(self, *seconds: float) -> Callable[[], None]:
        """Something that takes so long at each of its calls, and as the last at all that follow."""
        left = list(seconds)

        def call() -> None:
            self.now += left.pop(0) if len(left) > 1 else left[0]

        return call


class TestFaster:
    @pytest.mark.parametrize(("one", "other", "expected"), [(1, 2, True), (2, 1, False), (1, 1, False), (40, 1, False)])
    def test_the_shorter_time_wins(
        self, monkeypatch: pytest.MonkeyPatch, one: float, other: float, expected: bool
    ) -> None:
        clock = Clock(monkeypatch)
        assert faster(clock.taking(one * 1e-3), clock.taking(other * 1e-3)) is expected

    def test_interruptions_and_first_calls_do_not_count(self, monkeypatch: pytest.MonkeyPatch) -> None:
        clock = Clock(monkeypatch)
        assert faster(clock.taking(0.2, 0.05, 1e-3, 0.04, 0.03), clock.taking(2e-3))
        assert not faster(clock.taking(2e-3), clock.taking(0.2, 0.05, 1e-3, 0.04, 0.03))

    def test_what_is_close_is_looked_at_longer(self, monkeypatch: pytest.MonkeyPatch) -> None:
        clock = Clock(monkeypatch)
        assert not faster(clock.taking(1e-3), clock.taking(3e-3, 3e-3, 3e-3, 1.5e-3, 1.5e-3, 1e-3))

    def test_it_ends_soon_where_bfloat16_is_slow(self, monkeypatch: pytest.MonkeyPatch) -> None:
        clock = Clock(monkeypatch)
        assert not faster(clock.taking(0.05), clock.taking(1e-3))
        assert clock.now < 0.3


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Nothing is known yet, and bfloat16 is always faster; the number of threads at each measurement."""
    threads: list[int] = []

    def always(one: Callable[[], object], other: Callable[[], object]) -> bool:
        one()
        other()
        threads.append(torch.get_num_threads())
        return True

    monkeypatch.setattr(precision, "_measured", {})
    monkeypatch.setattr(precision, "faster", always)
    return threads


class TestChoice:
    def test_each_operation_is_measured_once_with_one_thread(self, measured: list[int]) -> None:
        before, state = torch.get_num_threads(), torch.get_rng_state()
        with torch.inference_mode():
            assert [fast_bfloat16(CPU), fast_bfloat16(CPU)] == [True, True]
            assert measured == [1]
            assert training_precision("auto", CPU) == training_precision("auto", CPU) == Precision(True, True)
        assert measured == [1] * 3
        assert torch.get_num_threads() == before
        assert torch.equal(torch.get_rng_state(), state)

    @pytest.mark.parametrize(("name", "fast"), [("bf16", True), ("fp32", False)])
    def test_a_given_precision_is_not_measured(self, measured: list[int], name: str, fast: bool) -> None:
        chosen = training_precision(name, CPU)
        assert chosen == Precision(fast, fast)
        assert str(chosen) == name
        assert chosen.product_type == (torch.bfloat16 if fast else torch.float32)
        assert not measured

    @pytest.mark.parametrize("capable", [False, True])
    def test_a_gpu_has_it_or_has_not(self, measured: list[int], monkeypatch: pytest.MonkeyPatch, capable: bool) -> None:
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: capable)
        assert training_precision("auto", torch.device("cuda")) == Precision(capable, capable)
        assert not fast_bfloat16(torch.device("cuda"))
        assert not measured

    def test_operations_may_differ(self) -> None:
        assert str(Precision(True, False)) == "bf16, Muon in fp32"
        assert str(Precision(False, True)) == "fp32, Muon in bf16"


@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="the mask is of x86's instructions")
def test_a_processor_without_bfloat16_works_in_float32() -> None:
    """Such a one takes 5 to 50 times longer in bfloat16: no load makes that look faster."""
    script = (
        "import torch; from gmvqzip.models.precision import fast_bfloat16; "
        "from gmvqzip.training.precision import training_precision; cpu = torch.device('cpu'); "
        "print(fast_bfloat16(cpu), training_precision('auto', cpu))"
    )
    environment = os.environ | {"ONEDNN_MAX_CPU_ISA": "AVX2"}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "fp32"]
