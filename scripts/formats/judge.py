"""A load program's answer in words, and whether it is good enough: exit status 0 or 1.

    python scripts/formats/judge.py ANSWER ALLOWED

ALLOWED is the mean difference that is still right, as a fraction of the logits' spread.
"""

import json
import sys
from pathlib import Path

file, allowed = sys.argv[1:]
answer = json.loads(Path(file).read_text("utf-8").strip().splitlines()[-1])
largest, mean, spread = (answer[key] for key in ("max_difference", "mean_difference", "spread"))
words = f"{answer['loader']} {answer['version']}: "
if mean is None:
    sys.stdout.write(f"{words}the logits are not finite\n")
    sys.exit(1)
words += f"logits differ by {mean:.1e} in the mean, {largest:.1e} at most, spread {spread:.2g}; says {answer['tokens']}"
is_right = mean <= float(allowed) * spread and len(answer["tokens"]) > 0
sys.stdout.write(words if is_right else f"{words}; at most {allowed} of the spread is right")
sys.exit(not is_right)
