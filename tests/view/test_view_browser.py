"""The page in a real browser: pictures have their pixels, slider, zoom and mix work, nothing is asked for."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from page_reader import seen
from tiny_hyperprior import smooth

from gmvqzip.codec import Codec
from gmvqzip.images.pixels import Picture
from gmvqzip.view.page import page

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
OPTIONS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--window-size=1200,900",
    "--virtual-time-budget=5000",  # milliseconds
]
SPOTS = [(0, 0), (17, 5), (99, 69)]
"""x and y of the pixels that are compared."""

WATCH = """<script>
window.wrong = [];
addEventListener("error", (event) => wrong.push("error: " + event.message), true);
addEventListener("securitypolicyviolation", (event) => wrong.push("policy: " + event.blockedURI));
</script>"""
ASK = """<script>
addEventListener("load", () => {
  const images = [...document.querySelectorAll("img")];
  const move = (input, value) => { input.value = value; input.dispatchEvent(new Event("input")); };
  const style = (element) => getComputedStyle(element);
  const pixels = (image) => {
    const canvas = new OffscreenCanvas(image.naturalWidth, image.naturalHeight).getContext("2d");
    canvas.drawImage(image, 0, 0);
    return SPOTS.map(([x, y]) => [...canvas.getImageData(x, y, 1, 1).data].slice(0, 3));
  };
  const coded = document.querySelector(".coded"), original = document.querySelector(".original");
  const stage = document.querySelector(".stage"), slider = stage.querySelector("input");
  const found = {
    sizes: images.map((image) => [image.naturalWidth, image.naturalHeight]),
    shown: images.every((image) => image.checkVisibility() && image.clientWidth > 0),
    pixels: [pixels(coded), original && pixels(original)],
    requests: performance.getEntriesByType("resource").map((entry) => entry.name.slice(0, 5)),
    width: stage.clientWidth,
    map: [...document.querySelectorAll(".frame img")].map((image) => style(image).imageRendering),
    bars: [...document.querySelectorAll(".usage path")].map((path) => path.getBBox().height),
  };
  if (slider) {
    move(slider, 25);
    found.clips = [style(original).clipPath, style(coded).clipPath];
  }
  const frame = document.querySelector(".frame");
  found.before = [style(frame).backgroundImage, style(frame.firstElementChild).opacity];
  move(document.querySelector("#mix"), 0.25);
  found.after = [style(frame).backgroundImage === 'url("' + coded.src + '")', style(frame.firstElementChild).opacity];
  document.querySelector('[data-zoom="2"]').click();
  found.zoomed = [stage.clientWidth, style(coded).imageRendering];
  found.wrong = wrong;
  const result = document.createElement("pre");
  result.id = "result";
  result.textContent = JSON.stringify(found);
  document.body.append(result);
});
</script>"""


def asked(made: str, folder: Path) -> dict[str, Any]:
    """What the browser finds on a page."""
    assert BROWSER is not None
    ask = ASK.replace("SPOTS", json.dumps(SPOTS))
    (folder / "page.html").write_text(made.replace("<title>", f"{WATCH}<title>", 1).replace("</body>", f"{ask}</body>"))
    profile = f"--user-data-dir={folder / 'profile'}"
    command = [BROWSER, *OPTIONS, profile, "--dump-dom", (folder / "page.html").as_uri()]
    dom = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout
    match = re.search(r'<pre id="result">(.*?)</pre>', dom)
    assert match is not None, dom[-2000:]
    found: dict[str, Any] = json.loads(html.unescape(match[1]))
    return found


pytestmark = pytest.mark.skipif(BROWSER is None, reason="no Chromium or Chrome is installed")


def levels(picture: Picture) -> list[list[int]]:
    return [picture.pixels[y, x].tolist() for x, y in SPOTS]


def test_beside_its_original(hyper: Codec, tmp_path: Path) -> None:
    original = Picture(smooth(70, 100))
    made = replace(seen(hyper, original, quality=60), original=original)
    found = asked(page(made), tmp_path)
    assert found["wrong"] == []
    assert set(found["requests"]) <= {"data:"}
    assert found["sizes"][:2] == [[100, 70], [100, 70]]
    rows, columns = made.stages[-1].shape
    assert found["sizes"][2:] == [[columns, rows], [columns // 2, rows // 2], *[[columns, rows]] * 6]
    assert found["shown"]
    assert found["pixels"] == [levels(made.picture), levels(original)]
    left, right = found["clips"]
    assert re.fullmatch(r"inset\(0px (75%|calc\(75%\)) 0px 0px\)", left)
    assert right == "inset(0px 0px 0px 25%)"
    assert set(found["map"]) == {"pixelated"}
    assert found["before"] == ["none", "1"]
    assert found["after"] == [True, "0.25"]
    assert found["width"] == 100
    assert found["zoomed"] == [200, "pixelated"]


def test_alone(tiny: Codec, tmp_path: Path) -> None:
    made = seen(tiny, Picture(smooth(70, 100)))
    found = asked(page(made), tmp_path)
    assert found["wrong"] == []
    assert found["pixels"] == [levels(made.picture), None]
    assert len(found["bars"]) == 3
    assert min(found["bars"]) > 1
    assert found["shown"]
    assert found["zoomed"] == [200, "pixelated"]


def test_the_watch_sees_what_is_wrong(tiny: Codec, tmp_path: Path) -> None:
    """The other tests could not pass on a page that asks for something."""
    made = page(seen(tiny, Picture(smooth(70, 100))))
    found = asked(made.replace("</h1>", '</h1><object data="https://localhost:9/x.png"></object>'), tmp_path)
    assert any(line.startswith("policy: ") for line in found["wrong"])
