"""A model database: every matrix at every level, solved once on the dense model's inputs, so that targets are only chosen."""
