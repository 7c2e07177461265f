"""The story of many runs: points, queue, run states, outcomes and the closing table."""
