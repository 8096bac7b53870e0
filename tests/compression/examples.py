"""How many examples Hypothesis tries here: few, the same ones every run, and without deadlines on shared machines."""

from hypothesis import settings

few = settings(max_examples=25, deadline=None, derandomize=True)
many = settings(max_examples=200, deadline=None, derandomize=True)
