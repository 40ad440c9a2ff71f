"""Profiling a device: which networks to measure, in which order, and what is kept of them."""
