"""The files that others train with, as text: none of them imports hwnas."""

from __future__ import annotations

from importlib.resources import files

from ..architecture.genotype import Architecture, lower
from ..lowering.torch_writer import identifier, to_source

PYRAMID_WIDTH = 256


def model_name(architecture: Architecture) -> str:
    """Return the name under which frameworks register an architecture: `hwnas_maedet_m`."""
    return identifier(f"hwnas_{architecture.name or 'backbone'}")


def timm_source(architecture: Architecture) -> str:
    """Return a Python file whose import registers the architecture with timm."""
    name = model_name(architecture)
    return to_source(
        architecture,
        adapter=_text("timm_adapter"),
        about="a detection backbone found by hwnas, as a model of timm. Needs torch and timm.",
        example=(
            "import timm, <this file>\n"
            f'timm.create_model("{name}", features_only=True, out_indices=(1, 2, 3))'
        ),
        ending=f'\n\nregister("{name}", LAYERS, __name__)\n',
    )


def torchvision_source(architecture: Architecture) -> str:
    """Return a Python file that builds torchvision's detectors on the architecture."""
    return to_source(
        architecture,
        adapter=_text("torchvision_adapter"),
        about=(
            "a detection backbone found by hwnas, under torchvision's detectors.\n"
            "Needs torch and torchvision."
        ),
        example=(
            'model = detector("fcos", num_classes=91)  # or "retinanet", "fasterrcnn"\n'
            "losses = model(images, targets)"
        ),
        ending=(
            "\n\n"
            'def detector(kind: str = "fcos", *, num_classes: int = 91, **options: Any) '
            "-> nn.Module:\n"
            '    """Return a detector with fresh weights; see `build_detector`."""\n'
            "    return build_detector(LAYERS, kind, num_classes, **options)\n"
        ),
    )


def mmdet_sources(architecture: Architecture) -> dict[str, str]:
    """Return the files of a folder that mmdetection 3.x trains from, by name.

    A module that registers the backbone, and configs for GFL (the paper's detector), FCOS and
    RetinaNet that inherit from those that mmdetection installs and differ in the backbone only.
    """
    name = model_name(architecture)
    module = to_source(
        architecture,
        adapter=_text("mmdet_adapter"),
        about=(
            "a detection backbone found by hwnas, registered with mmdetection.\n"
            "Needs torch and mmdet 3.x."
        ),
        example=f'MODELS.build(dict(type="{name}"))',
        ending=f'\n\nregister("{name}", LAYERS)\n',
    )
    channels = [layer.out_channels for _, layer in sorted(lower(architecture).outputs().items())]
    configs = {
        f"{detector}_{name}.py": _CONFIG.format(
            base=base, name=name, channels=channels, width=PYRAMID_WIDTH, title=title
        )
        for detector, title, base in _DETECTORS
    }
    return {f"{name}.py": module, **configs}


_DETECTORS = (
    ("gfl", "Generalized focal loss", "mmdet::gfl/gfl_r50_fpn_1x_coco.py"),
    ("fcos", "FCOS", "mmdet::fcos/fcos_r50-caffe_fpn_gn-head_1x_coco.py"),
    ("retinanet", "RetinaNet", "mmdet::retinanet/retinanet_r50_fpn_1x_coco.py"),
)

_CONFIG = """\
# {title} on {name}: mmdetection's own config with another backbone.
#
#     mim train mmdet THIS_FILE                     or, in a checkout of mmdetection,
#     python tools/train.py THIS_FILE
#
# Everything else (data, schedule, heads) is as in the base; change it as in any config.
# To run a config that mmengine dumped into a work_dir, put this folder on PYTHONPATH.
import sys

if '{{{{ fileDirname }}}}' not in sys.path:
    sys.path.insert(0, '{{{{ fileDirname }}}}')

_base_ = '{base}'
custom_imports = dict(imports=['{name}'], allow_failed_imports=False)
model = dict(
    data_preprocessor=dict(
        mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], bgr_to_rgb=True
    ),
    backbone=dict(
        _delete_=True,
        type='{name}',
        out_indices=(0, 1, 2, 3),
        # Weights of a classification network, where you have them:
        # init_cfg=dict(type='Pretrained', checkpoint='backbone.pth'),
    ),
    # C2 to C5; the base's start_level leaves C2 out. The paper's MAE-DET-S has 192 channels here
    # and in the head (in_channels, feat_channels).
    neck=dict(in_channels={channels}, out_channels={width}),
)
"""


def _text(module: str) -> str:
    return files(__package__).joinpath(f"{module}.py").read_text(encoding="utf-8")
