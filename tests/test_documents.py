"""The documents hold together: links lead somewhere, blocks are what their script writes, the README's code runs."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from PIL import Image

from gmvqzip.models.registry import read_info

ROOT = Path(__file__).parents[1]
PAGES = sorted(
    path.relative_to(ROOT) for path in (*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("scripts/*.md"))
)
LINK = re.compile(r"\]\(([^)\s]+)\)")
SCRIPT = re.compile(r"scripts/[\w/]+\.(?:py|sh)")


def without_code(text: str) -> str:
    """Markdown without its blocks of code."""
    return re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)


def anchors(page: Path) -> set[str]:
    """What a link to the page may name after #: its headings, lower case, signs dropped, spaces as hyphens."""
    heads = re.findall(r"^#+ (.*)$", without_code(page.read_text(encoding="utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_links_lead_somewhere(page: Path) -> None:
    for target in LINK.findall(without_code((ROOT / page).read_text(encoding="utf-8"))):
        if re.match(r"https?:|mailto:", target):
            continue
        name, _, anchor = target.partition("#")
        other = (ROOT / page).parent / name if name else ROOT / page
        assert other.exists(), target
        assert not anchor or anchor in anchors(other), target


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_scripts_that_are_named_exist(page: Path) -> None:
    for name in SCRIPT.findall((ROOT / page).read_text(encoding="utf-8")):
        assert (ROOT / name).is_file(), name


@pytest.mark.parametrize("page", sorted((ROOT / "docs" / "experiments").glob("*.md")), ids=lambda page: page.name)
def test_every_experiment_is_in_the_index(page: Path) -> None:
    index = (page.parent / "README.md").read_text(encoding="utf-8")
    assert page.name == "README.md" or f"]({page.name})" in index


def test_the_code_of_the_readme_runs(tmp_path: Path) -> None:
    """As it stands, in a fresh process, but of a smaller picture."""
    (code,) = re.findall(r"^```python\n(.*?)^```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL | re.M)
    assert len([line for line in code.splitlines() if line.strip()]) <= 15
    Image.fromarray(np.full((48, 64, 3), 90, np.uint8)).save(tmp_path / "a.png")
    code = code.replace("docs/pictures/otter.jpg", str(tmp_path / "a.png"))
    code += "\nassert image.size == (64, 48) and codes.shape == (8, 16, 16) and z.grad.abs().max() > 0\n"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


GIVEN = """
from pathlib import Path
import gmvqzip
from PIL import Image
from gmvqzip.pack import PackWriter

picture = Image.effect_mandelbrot((64, 48), (-2, -1.5, 1, 1.5), 9).convert("RGB")
for name in ("img.jpg", "a.png", "b.png"):
    picture.save(name)
data = gmvqzip.compress(picture)
Path("img.gmvq").write_bytes(data)
with PackWriter("set.gmvqp") as writer:
    writer.add("cat/0001", "a.png")
exif, packet, pieces = Image.Exif(), b"<x:xmpmeta/>", [data[:30], data[30:]]
"""
OTHERS = ("torchvision", "datasets", "webdataset", "pictures_with_a_codec")  # of which the code needs more than is here


def test_the_code_about_the_library_runs(tmp_path: Path, tiny_path: Path) -> None:
    """As it stands, block after block, in a fresh process, with the tiny model under the name of the default one."""
    pages = [(ROOT / "docs" / name).read_text(encoding="utf-8") for name in ("library.md", "packs.md")]
    blocks = [block for page in pages for block in re.findall(r"^```python\n(.*?)^```", page, re.DOTALL | re.M)]
    chosen = [block for block in blocks if not any(name in block for name in OTHERS)]
    assert len(chosen) == 5
    code = GIVEN + "\n".join(chosen)
    environment = {**os.environ, "GMVQZIP_MODELS": str(tiny_path.parent), "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True, cwd=tmp_path, env=environment)


@pytest.fixture(scope="module")
def documents() -> ModuleType:
    spec = importlib.util.spec_from_file_location("script_documents", ROOT / "scripts" / "measure" / "documents.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_blocks_are_what_the_figures_make(documents: ModuleType) -> None:
    for model, places in documents.PLACES.items():
        found = documents.json.loads((ROOT / places.figures).read_text(encoding="utf-8"))
        assert found["model"] == {"name": model, "id": read_info(ROOT / "models" / f"{model}.safetensors").model_id}
        for name, block, make in places.blocks:
            page = ROOT / name
            assert documents.with_block(page, block, make(found)) == page.read_text(encoding="utf-8"), block


def test_a_page_without_its_marks_is_left_alone(documents: ModuleType, tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    for text in ("nothing\n", "<!-- a: written by scripts/measure/flagship.py -->\n", "<!-- a: end -->\n" * 2):
        page.write_text(text)
        with pytest.raises(ValueError, match="not one block a"):
            documents.with_block(page, "a", "new\n")
    page.write_text("x\n<!-- a: written by scripts/measure/flagship.py -->\nold\n<!-- a: end -->\ny\n")
    changed = documents.with_block(page, "a", "new\n")
    assert changed == "x\n<!-- a: written by scripts/measure/flagship.py -->\nnew\n<!-- a: end -->\ny\n"


def test_what_the_readme_says_of_the_range(documents: ModuleType) -> None:
    """Its first paragraphs stand outside of the block, and are to change with it."""
    found = documents.json.loads((ROOT / documents.PLACES["photo"].figures).read_text(encoding="utf-8"))
    own = [point for point in found["mean"] if point["codec"] == "gmvqzip"]
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert f"{own[0]['bpp']:.2f} to {own[-1]['bpp']:.1f} bits per pixel" in readme
    assert f"`photo` ends at {own[-1]['psnr']:.0f} dB" in readme
