"""Measure networks as they come and keep them as a profile: what accuracy work goes on with.

    python benchmarks/reference.py --minutes 18 FOLDER

They are drawn and timed as `hwnas profile` does, but not chosen: a profile's choice is of networks
that are hard to predict. No predictor is fitted and nothing is put on the shelf.
profiles/cpu-reference was made so; `cpu_accuracy.py` and `transfer.py` take such folders.
"""

from __future__ import annotations

import argparse
import tempfile
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path

from hwnas.devices.lease import lease
from hwnas.devices.registry import connect, described
from hwnas.profiling.profile import Profile
from hwnas.profiling.session import Step, collect
from hwnas.store.journal import Journal
from hwnas.workflows.profile import drawn

SEED = 1_000_003
"""Another than a profile's by default: networks that it has not seen."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="a new folder")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--minutes", type=float, default=18.0)
    options = parser.parse_args()
    device = described(options.device)
    runtime = connect(device)
    with lease(runtime.resource), tempfile.TemporaryDirectory() as folder:
        device = replace(device, fusion=runtime.fusion())
        environment = runtime.environment()
        with Journal(Path(folder) / "journal", environment) as journal:
            networks = collect(
                runtime,
                device.fusion,
                drawn(SEED, device, whole=False),
                journal,
                60 * options.minutes,
                _tell,
            )
    told = {
        **environment,
        "date": datetime.now(timezone.utc).date().isoformat(),
        "seed": SEED,
        "minutes": options.minutes,
        "networks": len(networks),
        "contended_networks": sum(network.contended for network in networks),
    }
    Profile(device.name, networks, told).save(options.folder)


def _tell(step: Step) -> None:
    print(f"{step.networks} networks, {step.spent_s:.0f} s, sentinel {step.drift:+.1%}", flush=True)


if __name__ == "__main__":
    main()
