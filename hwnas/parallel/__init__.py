"""Independent tasks on many workers: one orchestrator, on a process pool or a Ray cluster."""
