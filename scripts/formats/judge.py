"""A loader program's answer in words, and whether it is good enough: exit status 0 or 1.

    python scripts/formats/judge.py ANSWER ALLOWED

ALLOWED is the divergence in nats, of the loader's predictions from this project's own, that is still rounding.
"""

import json
import sys
from pathlib import Path

file, allowed = sys.argv[1:]
answer = json.loads(Path(file).read_text("utf-8").strip().splitlines()[-1])
words = (
    f"{answer['loader']}: KL {answer['kl']:.1e}, logits differ by {answer['mean_difference']:.1e} in the mean, "
    f"{answer['max_difference']:.1e} at most; continues with {answer['generated'][:5]}"
)
is_right = abs(answer["kl"]) <= float(allowed) and len(answer["generated"]) > 0  # no comparison with NaN is true
sys.stdout.write(words if is_right else f"{words}; at most {allowed} nats is rounding")
sys.exit(not is_right)
