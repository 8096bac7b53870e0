"""What the leader does again and again: rings, sweeps, counts, removals."""
