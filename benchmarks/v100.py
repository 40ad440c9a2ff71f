"""How good the V100 predictors are, beside what they are compared with; and fitting them.

    python benchmarks/v100.py --data FOLDER --seeds 5 --docs docs/v100.md
    python benchmarks/v100.py --data FOLDER --seeds 5 --fit --out predictors

FOLDER holds conv_fp32.csv.gz, conv_fp16.csv.gz and conv_int8.csv.gz with the columns that
`hwnas evaluate` reads, and published_models.csv; the measurements are those of
alibaba/lightweight-neural-architecture-search (Apache-2.0). Each model on each split is one piece,
kept in the folder `--work`: what was interrupted goes on where it was. `--budget MINUTES` starts
no piece after that time; the table then says how many seeds each row has. Where a page's table
has rows of which no piece has run, such as baselines that do not change, they stay on the page.

`--fit` fits the shipped predictors to all rows; what their cards tell was predicted by models
that had not seen the rows: the pieces of the table.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from itertools import product
from pathlib import Path

import platformdirs
from v100_neighbours import example_report, neighbours_report
from v100_networks import network_reports
from v100_pieces import BYTES, FEATURES, MODELS, SHIPPED, Pieces
from v100_report import coverage_report, held_out, sums_report, table_report, with_rows_of
from v100_speed import speed_report
from v100_splits import SPLITS

from hwnas.latency.fitting import fit


def missing(pieces: Pieces, seeds: int) -> Iterator[tuple[str, str, int, str]]:
    """Yield the pieces that have not run, the most telling first."""
    for models, seed, name in product(([SHIPPED], MODELS), range(seeds), reversed(SPLITS)):
        for model, precision in product(models, BYTES):
            if pieces.missing(precision, name, seed, model):
                yield precision, name, seed, model


def run(pieces: Pieces, seeds: int, minutes: float) -> None:
    """Run what is missing until the time is over."""
    began = time.monotonic()
    for piece in list(missing(pieces, seeds)):
        if time.monotonic() - began > 60 * minutes:
            return
        pieces.get(*piece)


def ship(pieces: Pieces, seeds: int, out: Path) -> None:
    """Fit the shipped predictors to all rows."""
    for precision, regressor in pieces.shipped().items():
        table, measured = pieces.table(precision), pieces.measured(precision)
        name = f"v100-trt-{precision}"
        predictor = fit(
            measured.columns,
            measured.seconds,
            device=name,
            runtime="TensorRT, version not stated by the source",
            precision=precision,
            feature_set=FEATURES,
            bytes_per_value=measured.bytes_per_value,
            provenance={
                "source": "https://github.com/alibaba/lightweight-neural-architecture-search",
                "license": "Apache-2.0",
                "rows": len(table.kernels),
                "failed_measurements": table.failed,
                "bad_rows": len(table.bad) - table.failed,
                "learned_with": "the rows of all three precisions",
                "holds": "convolutions with activation and residual addition fused, batch 1 to "
                "128; no pools: these are answered by the roofline",
                "intervals": "of kernels whose resolution and output channels were both held out",
                "network_interval": "that of a single kernel, as if all errors had one sign: "
                "no whole network was measured",
            },
            held_out=held_out(pieces, precision, seeds),
            regressor=regressor,
        )
        predictor.save(out / name)
        size_mb = (out / name / "model.onnx").stat().st_size / 1e6
        print(f"{name}: {len(table.kernels):,} rows, {size_mb:.2f} MB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--budget", type=float, default=float("inf"), metavar="MINUTES")
    parser.add_argument("--docs", type=Path, help="write the report to this file")
    parser.add_argument("--fit", action="store_true", help="fit the shipped predictors")
    parser.add_argument("--out", type=Path, default=Path("predictors"))
    parser.add_argument(
        "--work", type=Path, default=Path(platformdirs.user_cache_dir("hwnas")) / "v100-benchmark"
    )
    options = parser.parse_args()
    pieces = Pieces(options.data, options.work)
    run(pieces, options.seeds, options.budget)
    if options.fit:
        ship(pieces, options.seeds, options.out)
        return
    sections = {
        "accuracy": table_report(pieces, options.seeds),
        "example": example_report(pieces),
        "neighbours": neighbours_report(pieces, options.seeds),
        "coverage": coverage_report(pieces, options.seeds),
        "sums": sums_report(pieces, options.seeds),
        **network_reports(options.data / "published_models.csv"),
        "speed": speed_report(),
    }
    print("\n".join(sections.values()))
    if options.docs:
        page = section(options.docs, "accuracy")
        sections["accuracy"] = with_rows_of(sections["accuracy"], page)
        write_sections(options.docs, sections)


def section(path: Path, name: str) -> str:
    """Return what stands in a page between `<!-- name -->` and `<!-- /name -->`."""
    opening, closing = _marks(name)
    return path.read_text(encoding="utf-8").split(opening)[1].split(closing)[0]


def write_sections(path: Path, sections: dict[str, str]) -> None:
    """Replace what stands in a page between the marks of each section."""
    text = path.read_text(encoding="utf-8")
    for name, content in sections.items():
        opening, closing = _marks(name)
        before, rest = text.split(opening)
        text = before + opening + content + closing + rest.split(closing)[1]
    path.write_text(text, encoding="utf-8")


def _marks(name: str) -> tuple[str, str]:
    return f"<!-- {name} -->\n", f"<!-- /{name} -->"


if __name__ == "__main__":
    main()
