"""The process and its machine: store, leases, files, ranks, progress, hardware, stop signals."""
