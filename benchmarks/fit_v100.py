"""Fit the shipped V100 predictors to a folder of measured TensorRT convolutions.

    python benchmarks/fit_v100.py --data FOLDER --out predictors

FOLDER holds conv_fp32.csv.gz, conv_fp16.csv.gz and conv_int8.csv.gz with the columns that
`hwnas evaluate` reads; the measurements are those of alibaba/lightweight-neural-architecture-search
(Apache-2.0). A random tenth of the rows is held out.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from hwnas.latency.columns import from_kernels
from hwnas.latency.fitting import fit
from hwnas.latency.regressors import Trees
from hwnas.latency.tables import read

BYTES = {"fp32": 4.0, "fp16": 2.0, "int8": 1.0}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--trees", type=int, default=500)
    parser.add_argument("--leaves", type=int, default=63)
    options = parser.parse_args()
    for precision, size in BYTES.items():
        table = read(options.data / f"conv_{precision}.csv.gz")
        name = f"v100-trt-{precision}"
        began = time.perf_counter()
        predictor = fit(
            from_kernels(table.kernels),
            table.seconds,
            device=name,
            runtime="TensorRT, version not stated by the source",
            precision=precision,
            feature_set="gpu",
            bytes_per_value=size,
            provenance={
                "source": "https://github.com/alibaba/lightweight-neural-architecture-search",
                "license": "Apache-2.0",
                "rows": len(table.kernels),
                "failed_measurements": table.failed,
                "bad_rows": len(table.bad),
                "holds": "convolutions with activation and residual addition fused, batch 1 to "
                "128; no pools: these are answered by the roofline",
                "network_interval": "from single kernels, as if all errors had one sign: "
                "no whole network was measured",
            },
            regressor=Trees(options.trees, options.leaves),
        )
        predictor.save(options.out / name)
        told = predictor.card.accuracy["held-out kernels"]
        print(
            f"{name}: {len(table.kernels):,} rows, held-out MAPE {told['mape']:.2%}, "
            f"within 10 % {told['within_10']:.1%}, fitted in {time.perf_counter() - began:.0f} s"
        )


if __name__ == "__main__":
    main()
