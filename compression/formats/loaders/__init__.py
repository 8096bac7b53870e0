"""Programs that load an artifact with software of other people, each run in a fresh process by `certificate.py`.

They import nothing of this project but `outcome.py` beside them, so that an environment that holds only the other people's
software can run them: `PYTHON compression/formats/loaders/with_transformers.py ARTIFACT PROBE DEVICE`.
"""
