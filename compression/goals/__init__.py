"""Name the goal, not the knobs: which level each layer gets, so that a budget holds and the model loses least."""
