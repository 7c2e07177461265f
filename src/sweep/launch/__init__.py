"""Launching many runs: Submitit starts the processes, on this machine or a cluster."""
