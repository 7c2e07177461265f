"""Pure words: records, schedules, errors, digests. No clock, disk, network or environment."""
