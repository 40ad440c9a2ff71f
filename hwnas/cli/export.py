"""`hwnas export`: a backbone as files that others use."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .arguments import detector_option, json_option, resolution_option, resolve_architecture
from .render import emit

if TYPE_CHECKING:
    from ..architecture.graph import Size


@click.command("export")
@click.argument("arch", metavar="RUN|ARCH|MODEL.onnx")
@click.option(
    "--format",
    "format_",
    required=True,
    metavar="onnx|torch|torchvision|timm|mmdet|tinynas|tensorrt",
    help="What to write.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    help="The file, or mmdet's folder; by default named after ARCH.",
)
@resolution_option(help="Input HxW of the ONNX file; by default the run's, else 224.")
@click.option("--batch", type=int, help="Images at a time; by default the run's, else 1.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of the ONNX file's weights.")
@click.option(
    "--fold-norm/--keep-norm", default=True, show_default=True, help="Batch normalisation, in ONNX."
)
@click.option(
    "--precision",
    metavar="fp32|fp16|int8",
    help="Of the ONNX file, by default fp32; of an engine, by default fp16.",
)
@click.option(
    "--calibrate",
    type=click.Path(path_type=Path),
    metavar="FOLDER",
    help="Images that INT8's ranges come from; without, Gaussian noise.",
)
@click.option(
    "--device", default="cuda:0", show_default=True, help="That an engine is built on; or trtexec."
)
@click.option(
    "--batches",
    multiple=True,
    metavar="N|LEAST:TYPICAL:MOST",
    help="An optimisation profile of an engine with an open batch; may be repeated.",
)
@click.option("--force", is_flag=True, help="Replace an existing file.")
@detector_option
@json_option
def command(
    arch: str,
    format_: str,
    out: Path | None,
    resolution: Size | None,
    batch: int | None,
    seed: int,
    fold_norm: bool,
    precision: str | None,
    calibrate: Path | None,
    device: str,
    batches: tuple[str, ...],
    force: bool,
    detector: str | None,
    as_json: bool,
) -> None:
    """Write RUN (a folder) or ARCH (a zoo name or a file) in the form that another tool reads.

    onnx: a model with fresh weights. torch: one Python file without hwnas; torchvision, timm: the
    same as a detector and as a registered model. mmdet: a folder that mmdetection trains from.
    tinynas: the reference toolbox's structure text. tensorrt: an engine for this machine's GPU.

    MODEL.onnx, a trained model say, is written in another --precision. The error against the float
    model is told, and a variant that is absurdly far from it is refused.
    """
    from ..workflows.export import export
    from ..workflows.precision import convert
    from ..workflows.runs import RunFolder

    if batches and format_ != "tensorrt":
        raise click.UsageError("--batches are an engine's: give --format tensorrt.")
    if Path(arch).suffix == ".onnx" and format_ != "tensorrt":
        if format_ != "onnx":
            raise click.UsageError(
                "an ONNX file is written in another precision (--format onnx) or as an engine."
            )
        result = convert(Path(arch), precision or "fp32", out, images=calibrate, force=force)
        emit(result, f"{result['path']}, {_size(result['bytes'])}{_error(result)}", as_json)
        return
    size, images = (224, 224), 1
    if (Path(arch) / "run.json").is_file():
        document = RunFolder.open(Path(arch)).result() or {}
        height, width = document["resolution"]
        size, images = (int(height), int(width)), int(document["batch"])
    if format_ == "tensorrt":
        if detector:
            raise click.UsageError(
                "an engine of a whole detector is built from its ONNX file: export that first, "
                "with --format onnx."
            )
        from ..devices.tensorrt.builder import BatchProfile
        from ..workflows.engines import export_engine

        model = Path(arch) if Path(arch).suffix == ".onnx" else None
        if model is not None and (resolution or batch):
            raise click.UsageError("an ONNX file has its own size: leave --resolution out.")
        built = export_engine(
            model or resolve_architecture(arch),
            device,
            precision or "fp16",
            out,
            resolution=resolution or size,
            batch=batch or images,
            batches=[BatchProfile.parse(text) for text in batches],
            images=calibrate,
            seed=seed,
            force=force,
        )
        emit(built, _engine(built), as_json)
        return
    if detector:
        from ..architecture.detectors import parse
        from ..workflows.export_detector import export_detector

        result = export_detector(
            resolve_architecture(arch),
            parse(detector),
            format_,
            out,
            resolution=resolution or size,
            batch=batch or images,
            seed=seed,
            fold_norm=fold_norm,
            force=force,
        )
        lines = [
            f"{part['path']}, {part['bytes'] / 1e6:.1f} MB: {part['name']}, "
            f"{len(part['outputs'])} outputs, {part['outputs'][0]['name']} first"
            for part in result["parts"]
        ]
        emit(result, "\n".join(lines), as_json)
        return
    result = export(
        resolve_architecture(arch),
        format_,
        out,
        resolution=resolution or size,
        batch=batch or images,
        seed=seed,
        fold_norm=fold_norm,
        force=force,
        precision=precision or "fp32",
        images=calibrate,
    )
    names = ", ".join(
        f"{output['name']} {output['channels']} channels, stride {output['reduction']}"
        for output in result["outputs"]
    )
    text = f"{result['path']}, {_size(result['bytes'])}: {names}{_error(result)}"
    emit(result, text, as_json)


def _error(result: dict[str, Any]) -> str:
    """Return how far a variant is from the float model, in words."""
    if "error" not in result:
        return ""
    each = ", ".join(f"{name} {error:.2%}" for name, error in result["errors"].items())
    source = f"\ncalibrated on {result['calibration']}" if result["calibration"] else ""
    return f"{source}\n{result['precision'].upper()} against the float model: {each}"


def _size(count: int) -> str:
    return f"{count / 1e6:.1f} MB" if count >= 1e5 else f"{count / 1e3:.1f} kB"


def _engine(built: dict[str, Any]) -> str:
    """Return what was built, in words."""
    each = ", ".join(f"{name} {error:.2%}" for name, error in built["errors"].items())
    return (
        f"{built['path']}, {_size(built['bytes'])}: {built['precision'].upper()} on a "
        f"{built['gpu']} with TensorRT {built['tensorrt']}, and nowhere else"
        + (f"\nINT8: {built['calibration']}" if built["calibration"] else "")
        + (f"\nagainst the float model: {each}" if each else "")
        + f"\n{built['card']} says so"
    )
