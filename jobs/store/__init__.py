"""Where results lie, how they are given out, and for how long they are kept."""
