"""Files of hyperprior models: round trip, and one clear line for each kind of damage."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load, save
from tiny_hyperprior import CONFIG, made

from gmvqzip.codec import Codec
from gmvqzip.errors import ModelError
from gmvqzip.models.hyperstore import dump_hyperprior, load_context, load_precisions, load_transform
from gmvqzip.models.registry import ModelInfo, read_info
from gmvqzip.models.store import round_weights, verify

Tensors = dict[str, np.ndarray[Any, Any]]
Write = Callable[[bytes], ModelInfo]


@pytest.fixture(scope="module")
def blob(hyper_path: Path) -> bytes:
    return hyper_path.read_bytes()


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write(data: bytes) -> ModelInfo:
        path = tmp_path / "m.safetensors"
        path.write_bytes(data)
        return read_info(path)

    return write


def rewritten(blob: bytes, tensors: Tensors, **metadata: str) -> bytes:
    """The same file with other tensors or metadata, its identity left as it was."""
    size = int.from_bytes(blob[:8], "little")
    return save(tensors, json.loads(blob[8 : 8 + size])["__metadata__"] | metadata)


class TestRoundTrip:
    def test_transform(self, blob: bytes, write: Write) -> None:
        transform = made().transform
        loaded = load_transform(write(blob), CONFIG)
        assert not loaded.training
        assert not any(value.requires_grad for value in loaded.parameters())
        round_weights(transform)
        for name, value in transform.state_dict().items():
            assert torch.equal(loaded.state_dict()[name], value), name

    def test_integers_and_precisions(self, blob: bytes, write: Write) -> None:
        info = write(blob)
        precisions = load_precisions(info, CONFIG)
        assert precisions.tolist() == [12.0] * 14
        context = load_context(info, CONFIG)
        assert context.channels == CONFIG.latents
        verify(info)

    def test_precisions_stand_in_coding_order(self, write: Write) -> None:
        model = made()
        start = 0
        for part in model.all_groups():
            part.weight.copy_(torch.arange(start, start + part.groups) + 1)
            start += part.groups
        info = write(dump_hyperprior("m", model, {}))
        assert load_precisions(info, CONFIG).tolist() == list(range(1, 15))

    def test_types(self, blob: bytes) -> None:
        tensors = load(blob)
        assert {name.split(".")[0] for name in tensors} == {"network", "scale", "context", "precision"}
        for name, tensor in tensors.items():
            kind, _, rest = name.partition(".")
            if kind == "network":
                compact = rest.startswith("analysis.") and tensor.ndim == 4 and tensor.size >= 4096
                assert tensor.dtype == (np.int8 if compact else np.float16), name
            elif kind == "context":
                assert tensor.dtype in (np.int8, np.int16, np.int32), name

    def test_large_convolutions_of_the_synthesis_are_not_compact(self, write: Write) -> None:
        model = made()
        wide = torch.nn.Conv2d(64, 64, 1)
        model.transform.synthesis.levels[0][0].mix = wide
        tensors = load(dump_hyperprior("m", model, {}))
        assert tensors["network.synthesis.levels.0.0.mix.weight"].dtype == np.float16

    def test_the_order_of_a_model_s_memory_does_not_matter(self, blob: bytes) -> None:
        """safetensors writes memory as it lies, and training keeps channels last."""
        model = made().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        found, expected = load(dump_hyperprior("m", model, {})), load(blob)
        assert found.keys() == expected.keys()
        assert all(np.array_equal(found[name], expected[name]) for name in expected)

    def test_loading_draws_nothing_from_the_global_generator(self, blob: bytes, write: Write) -> None:
        info = write(blob)
        torch.manual_seed(7)
        before = torch.get_rng_state()
        load_transform(info, CONFIG)
        assert torch.equal(torch.get_rng_state(), before)


def test_codes_need_no_torch(hyper: Codec, hyper_path: Path, tmp_path: Path, pixels: np.ndarray) -> None:
    path = tmp_path / "a.gmvq"
    path.write_bytes(hyper.compress(pixels))
    script = (
        "import sys; from pathlib import Path; from gmvqzip.codec import load; "
        "codes = load(sys.argv[1]).decode_codes(Path(sys.argv[2]).read_bytes()); "
        "print(codes.crc32(), 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script, hyper_path, path], capture_output=True, check=True, text=True)
    assert done.stdout.split() == [str(hyper.encode(pixels).crc32()), "False"]


def use(info: ModelInfo) -> None:
    """Everything that a codec reads."""
    load_context(info, CONFIG)
    load_precisions(info, CONFIG)
    load_transform(info, CONFIG)


def refusal(info: ModelInfo) -> str:
    """The message of the ModelError, one line, that reading a model and verifying it raise."""
    with pytest.raises(ModelError) as caught:
        use(info)
    assert "\n" not in str(caught.value)
    with pytest.raises(ModelError):
        verify(info)
    return str(caught.value)


class TestDamage:
    def test_each_tensor_is_needed(self, blob: bytes, tmp_path: Path) -> None:
        tensors = load(blob)
        path = tmp_path / "m.safetensors"
        for name in tensors:
            path.write_bytes(rewritten(blob, {key: value for key, value in tensors.items() if key != name}))
            with pytest.raises(ModelError, match=f"lacks tensor '{name}'"):
                use(read_info(path))

    @pytest.mark.parametrize(
        "change",
        [
            lambda tensor: tensor[:0],
            lambda tensor: tensor[..., :-1],
            lambda tensor: tensor[None],
            lambda tensor: tensor.reshape(-1)[0].reshape(()),
            lambda tensor: tensor.astype(np.float64),
            lambda tensor: tensor.astype(np.complex64),
            lambda tensor: tensor.astype(np.uint64),
            lambda tensor: tensor.astype(bool),
            lambda tensor: np.full(tensor.shape, np.nan, np.float32),
            lambda tensor: np.full(tensor.shape, np.inf, np.float32),
            lambda tensor: np.full(tensor.shape, np.iinfo(np.int64).min),
        ],
        ids=["empty", "cut", "deep", "scalar", "float64", "complex", "uint64", "bool", "nan", "inf", "int64"],
    )
    def test_each_tensor_is_checked(self, blob: bytes, tmp_path: Path, change: Callable[[Any], Any]) -> None:
        tensors = load(blob)
        path = tmp_path / "m.safetensors"
        for name, tensor in tensors.items():
            try:
                path.write_bytes(rewritten(blob, tensors | {name: np.ascontiguousarray(change(tensor))}))
            except (KeyError, ValueError):
                pytest.skip("safetensors does not write this type")
            with pytest.raises(ModelError) as caught:
                use(read_info(path))
            assert "\n" not in str(caught.value)

    @pytest.mark.parametrize(
        ("name", "value", "message"),
        [
            ("precision", np.zeros(14, np.float32), "must be positive and at most 1e+06"),
            ("precision", np.full(14, -1, np.float32), "must be positive"),
            ("precision", np.full(14, np.nan, np.float32), "must be positive"),
            ("precision", np.full(14, 1e30, np.float32), "must be positive"),
            ("precision", np.ones(13, np.float32), "wrong tensor 'precision'"),
            ("context.step.1.mix.weight", np.full((16, 16, 1, 1), 127, np.int8), None),
            ("context.hyper.smooth.weight", np.full((16, 16, 3, 3), -128, np.int8), None),
            ("context.step.1.spatial.weight", np.full((16, 48, 3, 3), 127, np.int8), "'step.1.spatial' might not be"),
            ("context.step.1.mix.shift", np.zeros(16, np.int8), "'step.1.mix' has a shift outside 1 to 24"),
            ("context.step.3.mix.bias", np.full((1, 16), 2**31 - 1, np.int32), "'step.3.mix' might not be exact"),
            ("context.hyper.classes", np.full((100, 2, 2), 14, np.int8), "'hyper.classes' has a class"),
            ("context.groups.1.codebook", np.ones((8, 16, 2), np.int16), "'groups.1.codebook': code 0"),
            ("context.groups.1.bias", np.full((8, 16), 2**31 - 1, np.int32), "'groups.1.bias' of groups is out of"),
            ("context.groups.0.precision", np.zeros((4, 2, 65), np.int32), "wrong tensor 'groups.0.precision'"),
            ("context.groups.0.slope", np.zeros((4, 2, 13), np.int32), "wrong tensor 'groups.0.slope'"),
        ],
    )
    def test_values(self, blob: bytes, write: Write, name: str, value: Any, message: str | None) -> None:
        info = write(rewritten(blob, load(blob) | {name: value}))
        if message is None:
            use(info)
        else:
            assert message in refusal(info)

    @pytest.mark.parametrize("value", [np.nan, np.inf, 3e38])
    def test_scales(self, blob: bytes, write: Write, value: float) -> None:
        name = "scale.analysis.hyper_down.weight"
        tensors = load(blob)
        tensors[name][0] = value
        assert "holds a value that is not finite" in refusal(write(rewritten(blob, tensors)))

    def test_verify_compares_the_identity(self, blob: bytes, write: Write) -> None:
        tensors = load(blob)
        tensors["context.hyper.mean"][0] += 1
        info = write(rewritten(blob, tensors))
        use(info)
        with pytest.raises(ModelError, match="its identity is"):
            verify(info)

    def test_cut_at_any_length(self, blob: bytes, tmp_path: Path) -> None:
        path = tmp_path / "cut.safetensors"
        header = 8 + int.from_bytes(blob[:8], "little")
        for length in [0, 7, 8, 9, header // 2, header - 1, header, header + 1, len(blob) // 2, len(blob) - 1]:
            path.write_bytes(blob[:length])
            with pytest.raises(ModelError, match="cut"):
                verify(read_info(path))

    def test_a_vanished_file(self, blob: bytes, write: Write) -> None:
        info = write(blob)
        info.path.unlink()
        for load_part in (load_context, load_precisions, load_transform):
            with pytest.raises(ModelError, match="No such file"):
                load_part(info, CONFIG)

    @pytest.mark.parametrize(
        "change",
        [
            {"channels": [16, 32, 4096]},
            {"channels": [4096, 4096, 4096], "encoder_blocks": [256, 256, 256]},
            {"decoder_blocks": [1, 256, 1]},
            {"quarter": [{"count": 255, "codes": 65536, "dimensions": 4}]},
            {"hyper": [{"count": 1, "codes": 65536, "dimensions": 4096}]},
            {"context_width": 4096},
        ],
        ids=str,
    )
    def test_a_configuration_far_larger_than_the_file(self, blob: bytes, write: Write, change: dict[str, Any]) -> None:
        """Refused without the memory that it asks for."""
        info = write(rewritten(blob, load(blob), config=json.dumps(CONFIG.to_dict() | change)))
        codec = Codec(info, "cpu")
        with pytest.raises(ModelError):
            verify(info)
        if "context_width" not in change and "hyper" not in change:
            with pytest.raises(ModelError, match=r"cannot hold what it is configured for"):
                codec.engine.network.loaded()
        if "channels" not in change and "decoder_blocks" not in change:
            with pytest.raises(ModelError, match="wrong"):
                _ = codec.engine.prior

    @pytest.mark.parametrize("change", [{"strides": [2]}, {"hyper": []}, {"kind": "later"}, {"version": 7}], ids=str)
    def test_a_damaged_configuration(self, blob: bytes, write: Write, change: dict[str, Any]) -> None:
        info = write(rewritten(blob, load(blob), config=json.dumps(CONFIG.to_dict() | change)))
        for check in (verify, Codec):
            with pytest.raises(ModelError, match=r"configuration|kind"):
                check(info)


class TestWriting:
    def test_weights_beyond_half_precision_are_refused(self) -> None:
        model = made()
        with torch.no_grad():
            model.transform.synthesis.final.bias[0] = 1e6
        with pytest.raises(ModelError, match=r"'synthesis\.final\.bias' is not finite in half precision"):
            dump_hyperprior("m", model, {})

    @pytest.mark.parametrize("value", [0.0, -1.0, 1e7])
    def test_precisions_out_of_range_are_refused(self, value: float) -> None:
        model = made()
        model.all_groups()[1].weight[2] = value
        with pytest.raises(ModelError, match="precisions of groups must be positive"):
            dump_hyperprior("m", model, {})

    def test_equal_models_give_equal_identities(self, blob: bytes, write: Write) -> None:
        again = dump_hyperprior("other", made(), {})
        assert write(again).model_id == write(blob).model_id
        assert write(dump_hyperprior("m", made(seed=1), {})).model_id != write(blob).model_id
