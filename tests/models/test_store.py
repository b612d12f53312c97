"""Model files: round trip, identity, and one clear line for each kind of damage."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load, save

from gmvqzip.entropy.tables import TOTAL, frequencies
from gmvqzip.errors import ModelError
from gmvqzip.models.config import GridConfig, NetworkConfig
from gmvqzip.models.network import StagedAutoencoder
from gmvqzip.models.registry import ModelInfo, read_info
from gmvqzip.models.store import dump_model, load_network, load_tables, model_identity, verify

Tensors = dict[str, np.ndarray[Any, Any]]

CONFIG = NetworkConfig(
    strides=(2, 4),
    channels=(8, 8),
    encoder_blocks=(0, 0),
    decoder_blocks=(0, 0),
    grids=(GridConfig(stride=4, stages=2, codes=8, dimensions=3),),
)
CODEBOOK = "network.stages.1.0.quantizer.codebook"


def made(seed: int = 0) -> tuple[StagedAutoencoder, list[np.ndarray[Any, Any]]]:
    """A network in evaluation mode, and its tables."""
    torch.manual_seed(seed)
    generator = np.random.default_rng(seed)
    network = StagedAutoencoder(CONFIG).eval()
    for quantizer in network.quantizers():
        quantizer.log_prior.normal_()
        quantizer.precision.fill_(3.25)
    return network, [frequencies(generator.integers(0, 100, 8)) for _ in range(2)]


@pytest.fixture(scope="module")
def blob() -> bytes:
    network, tables = made()
    return dump_model("mine", network, tables, {"note": "déjà vu"})


@pytest.fixture
def write(tmp_path: Path) -> Callable[[bytes], ModelInfo]:
    def write(data: bytes) -> ModelInfo:
        path = tmp_path / "mine.safetensors"
        path.write_bytes(data)
        return read_info(path)

    return write


def metadata_of(blob: bytes) -> dict[str, str]:
    """The `__metadata__` of a model file."""
    size = int.from_bytes(blob[:8], "little")
    found: dict[str, str] = json.loads(blob[8 : 8 + size])["__metadata__"]
    return found


def rewritten(blob: bytes, change: Callable[[Tensors], None], **metadata: str) -> bytes:
    """The same file with changed tensors or metadata, its identity left as it was."""
    tensors = load(blob)
    change(tensors)
    return save(tensors, metadata_of(blob) | metadata)


def nothing(tensors: Tensors) -> None:
    pass


class TestRoundTrip:
    def test_tables(self, blob: bytes, write: Callable[[bytes], ModelInfo]) -> None:
        _, tables = made()
        loaded = load_tables(write(blob))
        assert [table.dtype for table in loaded] == [np.int64, np.int64]
        assert all(np.array_equal(a, b) for a, b in zip(loaded, tables, strict=True))
        assert [int(table.sum()) for table in loaded] == [TOTAL, TOTAL]

    def test_network(self, blob: bytes, write: Callable[[bytes], ModelInfo]) -> None:
        network, _ = made()
        loaded = load_network(write(blob))
        assert loaded.config == CONFIG
        assert not loaded.training
        assert not any(value.requires_grad for value in loaded.parameters())
        for name, value in network.state_dict().items():
            found = loaded.state_dict()[name]
            assert found.dtype == torch.float32
            assert torch.equal(found, value.half().float()), name

    def test_codes_and_pixels(self, blob: bytes, write: Callable[[bytes], ModelInfo]) -> None:
        network, _ = made()
        with torch.no_grad():
            for value in [*network.parameters(), *network.buffers()]:
                value.copy_(value.half().float())
        loaded = load_network(write(blob))
        x = torch.rand(1, 3, 16, 24, generator=torch.Generator().manual_seed(0))
        indices = loaded.encode(x)
        assert all(torch.equal(a, b) for a, b in zip(indices, network.encode(x), strict=True))
        torch.testing.assert_close(loaded.decode(indices), network.decode(indices))
        with torch.no_grad():
            assert torch.equal(loaded(x).reconstruction, loaded.decode(indices))

    def test_a_loaded_network_can_be_trained_on(self, blob: bytes, write: Callable[[bytes], ModelInfo]) -> None:
        loaded = load_network(write(blob)).requires_grad_(True).train()
        output = loaded(torch.rand(1, 3, 8, 8))
        output.reconstruction.sum().backward()
        assert loaded.final.weight.grad is not None

    def test_metadata(self, blob: bytes, write: Callable[[bytes], ModelInfo]) -> None:
        info = write(blob)
        assert (info.name, info.card) == ("mine", {"note": "déjà vu"})
        assert NetworkConfig.from_dict(info.config) == CONFIG
        verify(info)

    def test_weights_are_half_floats(self, blob: bytes) -> None:
        types = {name.split(".")[0]: array.dtype for name, array in load(blob).items()}
        assert types == {"network": np.dtype(np.float16), "table": np.dtype(np.int32)}

    def test_equal_models_give_equal_contents(self, blob: bytes) -> None:
        again = dump_model("mine", *made(), {"note": "déjà vu"})
        assert metadata_of(again) == metadata_of(blob)
        first, second = load(again), load(blob)
        assert first.keys() == second.keys()
        assert all(np.array_equal(first[name], second[name]) for name in first)

    def test_float32_weights_are_read_too(self, blob: bytes, write: Callable[[bytes], ModelInfo]) -> None:
        def widen(tensors: Tensors) -> None:
            tensors[CODEBOOK] = tensors[CODEBOOK].astype(np.float32)

        assert load_network(write(rewritten(blob, widen))).config == CONFIG


class TestIdentity:
    def test_it_depends_on_every_tensor(self, blob: bytes) -> None:
        tensors, config = load(blob), CONFIG.to_dict()
        before = model_identity(config, tensors)
        assert before == metadata_of(blob)["model_id"]
        seen = {before}
        for name, array in tensors.items():
            flat = array.copy().reshape(-1)
            flat[-1] = np.nextafter(flat[-1], np.float16(9)) if array.dtype == np.float16 else flat[-1] + 1
            seen.add(model_identity(config, tensors | {name: flat.reshape(array.shape)}))
        assert len(seen) == 1 + len(tensors)

    @pytest.mark.parametrize(
        "change",
        [
            {"stage_blocks": 2},
            {"weight_per_dimension": False},
            {"channels": (8, 9)},
            {"grids": (GridConfig(4, 2, 8, 4),)},
        ],
    )
    def test_it_depends_on_the_configuration(self, blob: bytes, change: Mapping[str, Any]) -> None:
        tensors = load(blob)
        other = replace(CONFIG, **change).to_dict()
        assert model_identity(other, tensors) != model_identity(CONFIG.to_dict(), tensors)

    def test_it_does_not_depend_on_order_or_on_tuples(self, blob: bytes) -> None:
        tensors, config = load(blob), CONFIG.to_dict()
        shuffled = json.loads(json.dumps(dict(reversed(config.items()))))
        shuffled["grids"] = [dict(reversed(grid.items())) for grid in shuffled["grids"]]
        backwards = dict(reversed(tensors.items()))
        assert model_identity(shuffled, backwards) == model_identity(config, tensors)

    def test_it_depends_on_name_type_and_shape(self) -> None:
        a = np.arange(6, dtype=np.int32)
        variants: list[Tensors] = [
            {"a": a},
            {"b": a},
            {"a": a.reshape(2, 3)},
            {"a": a.view(np.float32)},
            {"a": a[:3], "b": a[3:]},
            {},
        ]
        assert len({model_identity({}, tensors) for tensors in variants}) == len(variants)

    def test_it_does_not_depend_on_the_machine_s_byte_order_or_strides(self) -> None:
        a = np.arange(6, dtype="<i4").reshape(2, 3)
        expected = model_identity({}, {"a": a})
        assert model_identity({}, {"a": a.astype(">i4")}) == expected
        assert model_identity({}, {"a": np.asfortranarray(a)}) == expected

    def test_it_does_not_depend_on_name_and_card(self, blob: bytes) -> None:
        network, tables = made()
        other = dump_model("another", network, tables, {})
        assert metadata_of(other)["model_id"] == metadata_of(blob)["model_id"]


def set_nan(tensors: Tensors) -> None:
    tensors[CODEBOOK][3, 1] = np.nan


def set_infinite(tensors: Tensors) -> None:
    tensors["network.final.bias"][0] = -np.inf


def wrong_shape(tensors: Tensors) -> None:
    tensors[CODEBOOK] = tensors[CODEBOOK][:7]


def wrong_type(tensors: Tensors) -> None:
    tensors[CODEBOOK] = tensors[CODEBOOK].astype(np.int32)


def lost(tensors: Tensors) -> None:
    del tensors[CODEBOOK]


def another_value(tensors: Tensors) -> None:
    tensors[CODEBOOK][0, 0] += 1


def another_tensor(tensors: Tensors) -> None:
    tensors["network.extra"] = np.zeros(3, dtype=np.float16)


def table_sum(tensors: Tensors) -> None:
    tensors["table.1"][0] += 1


def table_zero(tensors: Tensors) -> None:
    tensors["table.1"][1] += tensors["table.1"][0]
    tensors["table.1"][0] = 0


def table_type(tensors: Tensors) -> None:
    tensors["table.0"] = tensors["table.0"].astype(np.int64)


def table_shape(tensors: Tensors) -> None:
    tensors["table.0"] = frequencies(np.ones(9)).astype(np.int32)


def table_lost(tensors: Tensors) -> None:
    del tensors["table.1"]


def refusal(check: Callable[[ModelInfo], Any], info: ModelInfo) -> str:
    """The message of the ModelError that `check` raises: one line."""
    with pytest.raises(ModelError) as caught:
        check(info)
    assert "\n" not in str(caught.value)
    return str(caught.value)


class TestDamage:
    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (set_nan, "holds a value that is not finite"),
            (set_infinite, "'final.bias' holds a value that is not finite"),
            (wrong_shape, r"float16 [7, 3], but its configuration asks for [8, 3]"),
            (wrong_type, r"int32 [8, 3]"),
            (lost, f"lacks tensor '{CODEBOOK}'"),
        ],
    )
    def test_weights(
        self, blob: bytes, write: Callable[[bytes], ModelInfo], change: Callable[[Tensors], None], message: str
    ) -> None:
        info = write(rewritten(blob, change))
        assert message in refusal(load_network, info)
        assert message in refusal(verify, info)
        load_tables(info)

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (table_sum, f"sums to {TOTAL + 1}, not to 2^24"),
            (table_zero, "outside 1 to 2^24"),
            (table_type, "wrong tensor 'table.0': int32 [8] expected"),
            (table_shape, "wrong tensor 'table.0': int32 [8] expected"),
            (table_lost, "lacks tensor 'table.1'"),
        ],
    )
    def test_tables(
        self, blob: bytes, write: Callable[[bytes], ModelInfo], change: Callable[[Tensors], None], message: str
    ) -> None:
        info = write(rewritten(blob, change))
        assert message in refusal(load_tables, info)
        assert message in refusal(verify, info)

    @pytest.mark.parametrize("change", [another_value, another_tensor])
    def test_verify_compares_the_identity(
        self, blob: bytes, write: Callable[[bytes], ModelInfo], change: Callable[[Tensors], None]
    ) -> None:
        info = write(rewritten(blob, change))
        assert "its identity is" in refusal(verify, info)

    def test_cut_at_any_length(self, blob: bytes, tmp_path: Path) -> None:
        path = tmp_path / "cut.safetensors"
        header = 8 + int.from_bytes(blob[:8], "little")
        for length in [0, 1, 7, 8, 9, header // 2, header - 1, header, header + 1, len(blob) // 2, len(blob) - 1]:
            path.write_bytes(blob[:length])

            def use(path: Path) -> None:
                verify(read_info(path))

            with pytest.raises(ModelError, match="cut") as caught:
                use(path)
            assert "\n" not in str(caught.value)

    def test_a_file_cut_behind_its_header_gives_no_tables(
        self, blob: bytes, write: Callable[[bytes], ModelInfo]
    ) -> None:
        info = write(blob[:-1])
        assert "damaged or cut" in refusal(load_tables, info)
        assert "damaged or cut" in refusal(load_network, info)

    def test_a_pickle(self, tmp_path: Path) -> None:
        path = tmp_path / "evil.safetensors"
        for data in (pickle.dumps({"state": 1}), pickle.dumps({"state": 1}, protocol=0)):
            path.write_bytes(data)
            with pytest.raises(ModelError, match="not a gmvqzip model"):
                read_info(path)
        torch.save({"state": 1}, path)
        with pytest.raises(ModelError, match="not a gmvqzip model"):
            read_info(path)

    def test_a_vanished_file(self, blob: bytes, write: Callable[[bytes], ModelInfo]) -> None:
        info = write(blob)
        info.path.unlink()
        assert "No such file" in refusal(load_tables, info)
        assert "No such file" in refusal(load_network, info)

    def test_a_configuration_of_a_newer_version(self, blob: bytes, write: Callable[[bytes], ModelInfo]) -> None:
        config = json.dumps(CONFIG.to_dict() | {"version": 2})
        info = write(rewritten(blob, nothing, config=config))
        assert "version 2; this gmvqzip reads up to 1" in refusal(load_tables, info)
        assert "version 2; this gmvqzip reads up to 1" in refusal(load_network, info)

    @pytest.mark.parametrize("change", [{"strides": [2]}, {"grids": []}, {"strides": "x"}, {"stage_blocks": 1e9}])
    def test_a_damaged_configuration(
        self, blob: bytes, write: Callable[[bytes], ModelInfo], change: dict[str, Any]
    ) -> None:
        info = write(rewritten(blob, nothing, config=json.dumps(CONFIG.to_dict() | change)))
        assert "model configuration" in refusal(load_tables, info)
        assert "model configuration" in refusal(load_network, info)


class TestWriting:
    def test_weights_beyond_half_precision_are_refused(self) -> None:
        network, tables = made()
        with torch.no_grad():
            network.state_dict()["final.bias"][0] = 1e6
        with pytest.raises(ModelError, match=r"weight 'final\.bias' is not finite in half precision"):
            dump_model("mine", network, tables, {})

    def test_nan_weights_are_refused(self) -> None:
        network, tables = made()
        with torch.no_grad():
            network.start.fill_(torch.nan)
        with pytest.raises(ModelError, match="'start' is not finite"):
            dump_model("mine", network, tables, {})

    def test_wrong_tables_are_refused(self) -> None:
        network, tables = made()
        with pytest.raises(ModelError, match="sums to"):
            dump_model("mine", network, [tables[0], tables[1] + 1], {})
        with pytest.raises(ModelError, match="2 tables of 8, 8 codes"):
            dump_model("mine", network, tables[:1], {})
        with pytest.raises(ModelError, match="2 tables of 8, 8 codes"):
            dump_model("mine", network, [tables[0], frequencies(np.ones(9))], {})


def test_loading_draws_nothing_from_the_global_generator(write: Callable[[bytes], ModelInfo], blob: bytes) -> None:
    info = write(blob)
    torch.manual_seed(7)
    before = torch.get_rng_state()
    load_network(info)
    assert torch.equal(torch.get_rng_state(), before)
