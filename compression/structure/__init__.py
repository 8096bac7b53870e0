"""Models that are physically smaller: heads, columns and whole halves of blocks cut out against measured times (ZipLM)."""
