"""compress, decompress, test, codes and info on good input: what they write, print and accept."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from gmvqzip.codec import Codec

COMPRESS_KEYS = [
    "input output width height in_bytes out_bytes bpp model model_id quality header_bytes payload_bytes",
    "ideal_bits codes_crc32 seconds",
]
Cli = Callable[..., Any]


def objects(out: bytes) -> list[dict[str, Any]]:
    return [json.loads(line) for line in out.splitlines()]


def opened(path: Path) -> Image.Image:
    with Image.open(path) as image:
        image.load()
        return image


class TestThereAndBack:
    def test_default_names(self, cli: Cli, picture: Path, tiny: Codec) -> None:
        done = cli("compress", picture)
        assert (done.code, done.out, done.err) == (0, b"", "")
        packed = picture.with_suffix(".gmvq")
        assert packed.read_bytes() == tiny.compress(picture)
        source = picture.read_bytes()
        assert cli("decompress", packed, "-f").code == 0
        assert np.array_equal(np.asarray(opened(picture)), np.asarray(tiny.decompress(packed.read_bytes())))
        assert picture.read_bytes() != source

    def test_time_and_mode_are_the_source_s(self, cli: Cli, picture: Path) -> None:
        os.utime(picture, ns=(10**18, 10**18))
        picture.chmod(0o640)
        cli("compress", picture)
        status = picture.with_suffix(".gmvq").stat()
        assert (status.st_mtime_ns, status.st_mode & 0o777) == (10**18, 0o640)

    @pytest.mark.parametrize("ending", ["png", "webp", "jpg", "jpeg", "ppm", "npy"])
    def test_the_ending_of_o_decides_the_format(self, cli: Cli, packed: Path, tiny: Codec, ending: str) -> None:
        output = packed.parent / f"out.{ending}"
        assert cli("decompress", packed, "-o", output).code == 0
        shown = np.load(output) if ending == "npy" else np.asarray(opened(output))
        expected = np.asarray(tiny.decompress(packed.read_bytes()))
        assert shown.shape == expected.shape
        if ending not in ("jpg", "jpeg"):
            assert np.array_equal(shown, expected)

    def test_format_overrules_the_ending(self, cli: Cli, packed: Path) -> None:
        assert cli("decompress", packed, "-o", packed.parent / "out.dat", "--format", "webp").code == 0
        assert opened(packed.parent / "out.dat").format == "WEBP"
        assert cli("decompress", packed, "--format", "ppm").code == 0
        assert opened(packed.with_suffix(".ppm")).format == "PPM"

    def test_an_unknown_ending_is_a_usage_error(self, cli: Cli, packed: Path) -> None:
        done = cli("decompress", packed, "-o", packed.parent / "out.xyz")
        assert done.code == 2
        assert "no format is known" in done.err
        assert not (packed.parent / "out.xyz").exists()

    def test_streams(self, cli: Cli, picture: Path, tiny: Codec) -> None:
        data = tiny.compress(picture)
        assert cli("compress", "-", stdin=picture.read_bytes()).out == data
        assert cli("compress", "-c", picture).out == data
        assert cli("compress", picture, "-o", "-").out == data
        assert cli("compress", picture, "-o", "/dev/stdout").out == data
        png = cli("decompress", "-", stdin=data).out
        assert png.startswith(b"\x89PNG")
        assert cli("decompress", "-", "--format", "ppm", stdin=data).out.startswith(b"P6")
        output = picture.parent / "named.gmvq"
        assert cli("compress", "-", "-o", output, stdin=picture.read_bytes()).code == 0
        assert output.read_bytes() == data

    def test_a_model_by_path(self, cli: Cli, picture: Path, other_path: Path) -> None:
        packed = picture.with_suffix(".gmvq")
        assert cli("compress", picture, "-m", other_path).code == 0
        done = cli("decompress", packed, "-o", picture.parent / "back.png")
        assert done.code == 1
        assert "not installed" in done.err
        assert not (picture.parent / "back.png").exists()
        assert cli("decompress", packed, "-m", other_path, "-o", picture.parent / "back.png").code == 0
        assert cli("test", packed, "-m", other_path).code == 0
        wrong = cli("decompress", packed, "-m", "photo", "-c")
        assert wrong.code == 1
        assert "but model photo is" in wrong.err

    def test_alpha_gray_and_profile_come_back(self, cli: Cli, tmp_path: Path, pixels: np.ndarray) -> None:
        from PIL import ImageCms

        profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
        Image.fromarray(np.dstack([pixels, pixels[:, :, 0]])).save(tmp_path / "a.png", icc_profile=profile)
        Image.fromarray(pixels[:, :, 0]).save(tmp_path / "b.png")
        assert cli("compress", tmp_path / "a.png", tmp_path / "b.png").code == 0
        assert cli("decompress", "-r", tmp_path, "--output-dir", tmp_path / "out").code == 0
        a, b = opened(tmp_path / "out" / "a.png"), opened(tmp_path / "out" / "b.png")
        assert (a.mode, b.mode) == ("RGBA", "L")
        assert np.array_equal(np.asarray(a)[:, :, 3], pixels[:, :, 0])
        assert a.info["icc_profile"] == profile
        assert cli("compress", tmp_path / "a.png", "--strip", "-f").code == 0
        assert objects(cli("info", "--json", tmp_path / "a.gmvq").out)[0]["icc"] is False

    def test_a_format_without_transparency_says_so(self, cli: Cli, tmp_path: Path, pixels: np.ndarray) -> None:
        Image.fromarray(np.dstack([pixels, pixels[:, :, 0]])).save(tmp_path / "a.png")
        cli("compress", tmp_path / "a.png")
        done = cli("decompress", tmp_path / "a.gmvq", "--format", "jpg")
        assert done.code == 0
        assert "warning" in done.err
        assert "transparency" in done.err
        quiet = cli("decompress", tmp_path / "a.gmvq", "--format", "jpg", "-f", "--quiet")
        assert (quiet.code, quiet.err) == (0, "")

    def test_quality_is_accepted_and_said(self, cli: Cli, picture: Path, tiny: Codec) -> None:
        done = cli("compress", "-c", "-q", 30, "-v", picture)
        assert done.out == tiny.compress(picture)
        assert "single rate" in done.err
        assert "single rate" not in cli("compress", "-c", "-q", 30, picture).err
        for quality in ("0", "101", "high"):
            assert cli("compress", "-c", "-q", quality, picture).code == 2

    def test_threads_and_device_change_nothing(self, cli: Cli, picture: Path, tiny: Codec) -> None:
        import torch

        before = torch.get_num_threads()
        try:
            for threads in (1, 2):
                done = cli("compress", "-c", "-T", threads, "--device", "cpu", picture)
                assert done.out == tiny.compress(picture)
                assert torch.get_num_threads() == threads
        finally:
            torch.set_num_threads(before)
        assert cli("compress", "-c", "-T", "0", picture).out == tiny.compress(picture)
        for wrong in ("-1", 10**20):
            assert cli("compress", "-T", wrong, picture).code == 2
        assert cli("compress", "--device", "abacus", picture).code == 2
        if not torch.cuda.is_available():
            done = cli("compress", "--device", "cuda", picture)
            assert (done.code, done.err.count("\n")) == (1, 1)
            assert "no CUDA device" in done.err


class TestJson:
    def test_compress(self, cli: Cli, picture: Path, tiny: Codec) -> None:
        done = cli("compress", "--json", picture)
        (fields,) = objects(done.out)
        assert set(" ".join(COMPRESS_KEYS).split()) <= set(fields)
        packed = picture.with_suffix(".gmvq")
        assert (fields["input"], fields["output"]) == (str(picture), str(packed))
        assert (fields["width"], fields["height"]) == (37, 23)
        assert (fields["in_bytes"], fields["out_bytes"]) == (picture.stat().st_size, packed.stat().st_size)
        assert fields["bpp"] == 8 * fields["out_bytes"] / (37 * 23)
        assert (fields["model"], fields["model_id"], fields["quality"]) == ("photo", tiny.model_id, 0)
        parts = fields["header_bytes"] + fields["sections_bytes"] + fields["payload_bytes"]
        assert parts == fields["out_bytes"]
        assert 0 < fields["ideal_bits"] <= 8 * fields["payload_bytes"]
        assert fields["codes_crc32"] == f"{tiny.encode(picture).crc32():08x}"
        assert fields["seconds"] > 0

    def test_all_commands_agree(self, cli: Cli, picture: Path) -> None:
        (first,) = objects(cli("compress", "--json", picture).out)
        packed = picture.with_suffix(".gmvq")
        shared = {key: first[key] for key in ("width", "height", "bpp", "model", "model_id", "quality", "gray")}
        shared |= {key: first[key] for key in ("header_bytes", "sections_bytes", "payload_bytes")}
        exact = shared | {key: first[key] for key in ("ideal_bits", "codes_crc32")}
        for command, expected in (
            (("info",), shared),
            (("test",), exact),
            (("decompress", "-f"), exact),
            (("codes", "-f"), exact),
        ):
            (fields,) = objects(cli(*command, "--json", packed).out)
            assert {key: fields[key] for key in expected} == expected, command

    def test_one_object_per_file_in_order_whatever_fails(self, cli: Cli, tmp_path: Path, picture: Path) -> None:
        (tmp_path / "broken.png").write_bytes(b"nothing")
        names = [tmp_path / "broken.png", picture, tmp_path / "missing.png"]
        done = cli("compress", "--json", *names, "-j", 2)
        assert done.code == 1
        by_input = {fields["input"]: fields for fields in objects(done.out)}
        assert set(by_input) == {str(name) for name in names}
        assert "error" in by_input[str(names[0])]
        assert "error" not in by_input[str(picture)]
        assert done.err.splitlines()[-1] == "gmvqzip: 2 of 3 files failed"

    def test_json_and_the_output_do_not_mix(self, cli: Cli, picture: Path) -> None:
        for arguments in (("-c",), ("-o", "-")):
            done = cli("compress", "--json", picture, *arguments)
            assert (done.code, done.out) == (2, b"")


class TestInfo:
    def test_text(self, cli: Cli, packed: Path, tiny: Codec) -> None:
        done = cli("info", packed)
        text = done.out.decode()
        assert done.code == 0
        assert text.startswith(f"{packed}:\n")
        for part in ("37x23, colour", "header 12", "payload", f"photo ({tiny.model_id[:8]})", "single rate"):
            assert part in text

    def test_verbose_tells_the_bits_of_each_stage(self, cli: Cli, packed: Path, tiny: Codec) -> None:
        text = cli("info", "-v", packed).out.decode()
        assert text.count("stage") == 3
        (fields,) = objects(cli("info", "-v", "--json", packed).out)
        bits = [stage["bits"] for stage in fields["stages"]]
        assert bits == list(tiny.follow(tiny.decode_codes(packed.read_bytes())).bits())

    def test_a_model_that_is_not_installed_is_said(
        self, cli: Cli, packed: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        monkeypatch.setenv("GMVQZIP_MODELS", str(tmp_path))
        done = cli("info", "-v", packed)
        assert done.code == 0
        assert b"not installed" in done.out
        (fields,) = objects(cli("info", "--json", packed).out)
        assert fields["model"] is None
        assert len(fields["model_id"]) == 4

    def test_a_model_by_path_and_the_wrong_one(self, cli: Cli, picture: Path, other_path: Path) -> None:
        cli("compress", picture, "-m", other_path)
        packed = picture.with_suffix(".gmvq")
        assert b"not installed" in cli("info", packed).out
        assert b"other (" in cli("info", packed, "-m", other_path).out
        wrong = cli("info", packed, "-m", "photo")
        assert (wrong.code, wrong.out) == (1, b"")
        assert "but model photo is" in wrong.err

    def test_directories(self, cli: Cli, packed: Path) -> None:
        assert cli("info", "-r", packed.parent).out == cli("info", packed).out
        assert cli("info", packed.parent).code == 1

    def test_standard_input_and_several_files(self, cli: Cli, packed: Path) -> None:
        assert b"(standard input):" in cli("info", "-", stdin=packed.read_bytes()).out
        done = cli("info", packed, packed.parent / "missing.gmvq", packed)
        assert done.code == 1
        assert done.out.count(b"picture:") == 2


class TestTest:
    def test_good_files(self, cli: Cli, packed: Path, tiny: Codec) -> None:
        done = cli("test", packed)
        crc = f"{tiny.decode_codes(packed.read_bytes()).crc32():08x}"
        assert (done.code, done.out.decode()) == (0, f"{packed}: ok, codes {crc}\n")
        assert cli("test", "--quiet", packed).out == b""
        assert cli("test", "-", stdin=packed.read_bytes()).code == 0
        assert cli("test", "-r", packed.parent).code == 0

    def test_damaged_sections_are_found(self, cli: Cli, tmp_path: Path, tiny: Codec, pixels: np.ndarray) -> None:
        path = tmp_path / "a.gmvq"
        path.write_bytes(tiny.pack_codes(tiny.encode(pixels), {1: b"no zlib stream"}).data)
        done = cli("test", path)
        assert done.code == 1
        assert "transparency is damaged" in done.err


class TestCodes:
    def test_there_and_back(self, cli: Cli, tmp_path: Path, tiny: Codec, pixels: np.ndarray) -> None:
        path = tmp_path / "a.gmvq"
        path.write_bytes(tiny.compress(np.dstack([pixels, pixels[:, :, 1] | 1])))
        assert cli("codes", path).code == 0
        with np.load(tmp_path / "a.npz") as arrays:
            codes = tiny.encode(pixels)
            for number, stage in enumerate(codes.stages):
                assert np.array_equal(arrays[f"stage_{number:02d}"], stage)
            assert int(arrays["width"]) == 37
        assert cli("codes", "--pack", tmp_path / "a.npz", "-o", tmp_path / "b.gmvq").code == 0
        assert (tmp_path / "b.gmvq").read_bytes() == path.read_bytes()

    def test_streams(self, cli: Cli, packed: Path) -> None:
        archive = cli("codes", "-", stdin=packed.read_bytes()).out
        assert archive.startswith(b"PK")
        assert cli("codes", "--pack", "-", stdin=archive).out == packed.read_bytes()

    def test_a_foreign_archive(self, cli: Cli, tmp_path: Path) -> None:
        (tmp_path / "a.npz").write_bytes(b"no archive")
        done = cli("codes", "--pack", tmp_path / "a.npz")
        assert done.code == 1
        assert "not a .npz archive of codes" in done.err
        assert not (tmp_path / "a.gmvq").exists()


class TestJobs:
    @pytest.mark.parametrize("jobs", [1, 3])
    def test_results_come_in_the_order_of_the_files(
        self, cli: Cli, tmp_path: Path, tiny: Codec, jobs: int, pixels: np.ndarray
    ) -> None:
        names = [tmp_path / f"{number}.png" for number in range(6)]
        for number, name in enumerate(names):
            Image.fromarray(np.roll(pixels, number, axis=0)).save(name)
        packed = [name.with_suffix(".gmvq") for name in names]
        for arguments, inputs in (
            (("compress", "--json"), names),
            (("test", "--json"), packed),
            (("codes", "--json"), packed),
            (("decompress", "--json", "-f", "-T", 1), packed),
        ):
            done = cli(*arguments, "-j", jobs, *inputs)
            assert done.code == 0
            assert [fields["input"] for fields in objects(done.out)] == [str(name) for name in inputs]
        assert all(path.read_bytes() == tiny.compress(np.roll(pixels, n, axis=0)) for n, path in enumerate(packed))
        assert cli("compress", "-j", 0, *names).code == 2


class TestMessages:
    def test_a_person_at_a_terminal_is_told_the_result(self, cli: Cli, picture: Path) -> None:
        done = cli("compress", picture, tty_err=True)
        assert "img.gmvq: 37x23" in done.err
        assert cli("compress", "-f", picture).err == ""
        assert "img.gmvq: 37x23" in cli("compress", "-f", "-v", picture).err
        assert cli("compress", "-f", "--quiet", picture, tty_err=True).err == ""

    def test_progress_only_on_a_terminal(self, cli: Cli, tmp_path: Path, pixels: np.ndarray) -> None:
        for number in range(3):
            Image.fromarray(pixels).save(tmp_path / f"{number}.png")
        arguments = ("compress", "-f", "-r", tmp_path)
        assert "\x1b" in cli(*arguments, tty_err=True).err
        assert "\x1b" not in cli(*arguments, "--no-progress", tty_err=True).err
        assert cli(*arguments, "--quiet", tty_err=True).err == ""
        assert cli(*arguments).err == ""

    def test_no_color(self, cli: Cli, tmp_path: Path, pixels: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
        for number in range(3):
            Image.fromarray(pixels).save(tmp_path / f"{number}.png")
        monkeypatch.setenv("TERM", "xterm-256color")
        coloured = re.compile(r"\x1b\[[0-9;]*3[0-9]")
        assert coloured.search(cli("compress", "-r", tmp_path, tty_err=True).err)
        monkeypatch.setenv("NO_COLOR", "1")
        assert not coloured.search(cli("compress", "-f", "-r", tmp_path, tty_err=True).err)

    def test_binary_to_a_terminal(self, cli: Cli, picture: Path) -> None:
        done = cli("compress", "-c", picture, tty_out=True)
        assert (done.code, done.out) == (2, b"")
        assert "terminal" in done.err
        assert cli("compress", "-c", "-f", picture, tty_out=True).out.startswith(b"\x9dG")

    def test_version_and_help(self, cli: Cli) -> None:
        import gmvqzip

        assert cli("--version").out.decode() == f"gmvqzip {gmvqzip.__version__}\n"
        text = cli("--help").out.decode()
        for command in ("compress", "decompress", "info", "test", "codes", "train", "models"):
            assert command in text
            assert cli(command, "--help").code == 0
        assert cli("nonesuch").code == 2
        assert cli("compress").code == 2
        assert cli("compress", "--nonesuch").code == 2

    def test_shell_completion(self, cli: Cli) -> None:
        assert "--show-completion" in cli("--help").out.decode()
