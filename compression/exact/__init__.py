"""The exact greedy solvers of OBC (arXiv:2208.11580): one weight at a time, each row in its own order."""
