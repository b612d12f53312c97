"""Write models/NAME.md, the card of each shipped model, from what its file says of itself.

python scripts/cards.py [FOLDER]
"""

from __future__ import annotations

import argparse
import math
from collections import Counter
from pathlib import Path
from typing import Any

from gmvqzip.models.cost import cost
from gmvqzip.models.kinds import read_config
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
    lines = [
        f"# {info.name}",
        "",
        f"- Identity: `{info.model_id}`",
        f"- File: {size.file_bytes / 1e6:.2f} MB, {size.parameters / 1e6:.2f} million parameters",
        f"- Work: {size.encode_kmac:.1f} kMAC (thousand multiply-accumulates) per pixel to encode, "
        f"{size.decode_kmac:.1f} to decode",
        f"- Grids, coarse to fine: {_grids(info)}",
        f"- At most {_nominal(info):.4f} bits per pixel before entropy coding",
        f"- Trained on: {card['trained_on']}",
        f"- Permitted use and licence of the data: {card['note'] or 'not stated'}",
        f"- Training: {training['steps_done']} steps of {training['batch_size']} pictures, "
        f"{training['seconds_trained'] / 60:.0f} minutes, {card['machine']}, seed {training['seed']}",
        *([f"- Verdict: {card['verdict']['text']}"] if "verdict" in card else []),
        "",
        *_results(card["results"]),
        "",
    ]
    return "\n".join(lines)


def _grids(info: ModelInfo) -> str:
    """The stages of a model, those that are alike counted."""
    alike = Counter((stage.stride, stage.codes, stage.dimensions) for stage in read_config(info.config).stages())
    return "; ".join(
        f"{count} x {codes} codes of {dimensions} dimensions at stride {stride}"
        for (stride, codes, dimensions), count in alike.items()
    )


def _nominal(info: ModelInfo) -> float:
    """Bits per pixel of the indices if all codes were equally likely."""
    return sum(math.log2(stage.codes) / stage.stride**2 for stage in read_config(info.config).stages())


def _results(results: dict[str, Any]) -> list[str]:
    """The measured results as Markdown lines: one row a split, or one a quality."""
    if all("quality" in split for split in results.values()):
        lines = [
            "Measured at the end of training on files of the model, headers included, beside WebP (slowest setting)."
        ]
        for name, split in results.items():
            lines += [
                "",
                f"| {name}: quality | bpp | PSNR, mean of {split['pictures']} (dB) | WebP at this rate (dB) |",
            ]
            lines.append("|---|---|---|---|")
            columns = (split["quality"], split["bpp"], split["psnr_mean"], split["webp_psnr_mean"])
            for quality, bpp, psnr, webp in zip(*columns, strict=True):
                rival = "not reached" if webp is None else f"{webp:.2f}"
                lines.append(f"| {quality} | {bpp:.4f} | {psnr:.2f} | {rival} |")
        return lines
    return [
        "Measured at the end of training by hard codes, with the weights as shipped; bpp is the ideal code length",
        "under the shipped tables, without the file's header.",
        "",
        HEAD,
        *[_row(split, values) for split, values in results.items()],
    ]


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
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path, default=Path(__file__).resolve().parent.parent / "models")
    for path in sorted(parser.parse_args().folder.glob("*.safetensors")):
        info = read_info(path)
        path.with_suffix(".md").write_text(card_text(info), encoding="utf-8")
        print(path.with_suffix(".md"))


if __name__ == "__main__":
    main()
