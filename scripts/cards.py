"""Write models/NAME.md, the card of each shipped model, from what its file says of itself.

python scripts/cards.py [FOLDER]
"""

from __future__ import annotations

import math
import sys
from pathlib import Path
from typing import Any

from gmvqzip.models.cost import cost
from gmvqzip.models.registry import ModelInfo, read_info

ROW = "| {} | {} | {:.3e} | {:.2f} | {:.2f} | {:.4f} | {} | {} |"
HEAD = (
    "| pictures | count | MSE in [0, 1] | PSNR, mean of pictures (dB) | PSNR of the mean MSE (dB) | bpp | "
    "perplexity of hard codes | codes used |\n|---|---|---|---|---|---|---|---|"
)


def card_text(info: ModelInfo) -> str:
    """The Markdown card of a model."""
    card, size = info.card, cost(info)
    training = card["training"]
    grids = "; ".join(
        f"{grid['stages']} x {grid['codes']} codes of {grid['dimensions']} dimensions at stride {grid['stride']}"
        for grid in info.config["grids"]
    )
    lines = [
        f"# {info.name}",
        "",
        f"- Identity: `{info.model_id}`",
        f"- File: {size.file_bytes / 1e6:.2f} MB, {size.parameters / 1e6:.2f} million parameters",
        f"- Work: {size.encode_kmac:.1f} kMAC (thousand multiply-accumulates) per pixel to encode, "
        f"{size.decode_kmac:.1f} to decode",
        f"- Grids, coarse to fine: {grids}",
        f"- At most {_nominal(info):.4f} bits per pixel before entropy coding",
        f"- Trained on: {card['trained_on']}",
        f"- Permitted use and licence of the data: {card['note'] or 'not stated'}",
        f"- Training: {training['steps_done']} steps of {training['batch_size']} pictures, "
        f"{training['seconds_trained'] / 60:.0f} minutes, {card['machine']}, seed {training['seed']}",
        "",
        "Measured at the end of training by hard codes, with the weights as shipped; bpp is the ideal code length",
        "under the shipped tables, without the file's header.",
        "",
        HEAD,
        *[_row(split, results) for split, results in card["results"].items()],
        "",
    ]
    return "\n".join(lines)


def _nominal(info: ModelInfo) -> float:
    """Bits per pixel of the indices if all codes were equally likely."""
    return sum(grid["stages"] * math.log2(grid["codes"]) / grid["stride"] ** 2 for grid in info.config["grids"])


def _row(split: str, results: dict[str, Any]) -> str:
    return ROW.format(
        split,
        results["pictures"],
        results["mse"],
        results["psnr_mean"],
        results["psnr_of_mean_mse"],
        results.get("bpp", results["bpp_order0"]),
        " / ".join(f"{value:.1f}" for value in results["perplexity_hard"]),
        " / ".join(f"{value:.1%}" for value in results["utilisation"]),
    )


def main() -> None:
    """Write the cards of all models in the folder, by default the repository's."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).resolve().parent.parent / "models"
    for path in sorted(folder.glob("*.safetensors")):
        info = read_info(path)
        path.with_suffix(".md").write_text(card_text(info), encoding="utf-8")
        print(path.with_suffix(".md"))


if __name__ == "__main__":
    main()
