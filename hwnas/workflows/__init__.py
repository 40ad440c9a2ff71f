"""What the commands do, as a Python API."""
