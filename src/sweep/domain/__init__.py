"""Words that every folder shares: records, schedules, errors, digests. No clock, disk, network or environment."""
