"""Hardware-aware network search: from a device and a budget to a detection backbone."""

__version__ = "0.1.0"
