"""Devices: what is written about them on the shelf, and the adapters to their runtimes."""
