"""The wheel: built, unpacked elsewhere, and used outside the repository with the models that it carries."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def run(*command: object, cwd: Path, path: Path | None = None) -> str:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GMVQZIP")}
    if path is not None:
        environment["PYTHONPATH"] = str(path)
    done = subprocess.run([str(part) for part in command], cwd=cwd, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.slow
def test_the_wheel_works_outside_the_repository(tmp_path: Path) -> None:
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    run(*pip, "wheel", "--no-deps", "--no-build-isolation", "-w", tmp_path, ROOT, cwd=tmp_path)
    (wheel,) = tmp_path.glob("gmvqzip-*.whl")
    site, work = tmp_path / "site", tmp_path / "work"
    work.mkdir()
    run(*pip, "install", "--no-deps", "--target", site, wheel, cwd=tmp_path)
    assert (site / "gmvqzip" / "py.typed").is_file()
    assert {path.name for path in (site / "gmvqzip" / "_models").glob("*.safetensors")} == {
        "celeba.safetensors",
        "cifar10.safetensors",
        "faces.safetensors",
        "photo.safetensors",
        "photo-psnr.safetensors",
    }
    for name in ("gmvqzip.magic", "gmvqzip.xml"):
        assert (site / "gmvqzip" / "desktop" / name).is_file()
    assert (site / "share" / "man" / "man1" / "gmvqzip.1").read_bytes() == (ROOT / "docs" / "gmvqzip.1").read_bytes()
    assert (site / "share" / "mime" / "packages" / "gmvqzip.xml").is_file()
    program = [sys.executable, "-m", "gmvqzip"]
    picture = ROOT / "docs" / "pictures" / "otter.jpg"
    where = run(sys.executable, "-c", "import gmvqzip; print(gmvqzip.__file__)", cwd=work, path=site)
    assert Path(where.strip()).is_relative_to(site)
    run(*program, "compress", picture, "-o", "otter.gmvq", cwd=work, path=site)
    assert "photo" in run(*program, "info", "otter.gmvq", cwd=work, path=site)
    run(*program, "decompress", "otter.gmvq", cwd=work, path=site)
    assert (work / "otter.png").read_bytes().startswith(b"\x89PNG")
    run(*program, "view", "otter.gmvq", picture, cwd=work, path=site)
    assert (work / "otter.html").read_text().startswith("<!DOCTYPE html>")
