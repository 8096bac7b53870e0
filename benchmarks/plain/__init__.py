"""The plain baseline: SparseGPT and OPTQ as their papers' pseudocode says, with torch operations and transformers' own model.

What a competent researcher writes in an afternoon: float32, one Hessian for each module, two forwards a block, a loop over
columns. Not tuned, and not made slow on purpose. `benchmarks.speed` measures Scalpel against it; it shares no code with
Scalpel's solvers, so that it is also an independent check of them.
"""
