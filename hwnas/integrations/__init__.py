"""What others train with: timm, torchvision, mmdetection, and the structure texts of TinyNAS.

Each module imports its framework where it is used. Those named `*_adapter` also go, as text, into
the files that `hwnas export` writes, which is why they import nothing of hwnas but the torch
module beside which they stand in such a file.
"""
