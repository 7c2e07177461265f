"""The story of one run, and the rooms that prepare, train, score and record it."""
