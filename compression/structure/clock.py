"""Times forwards of whole models, in a process of its own: `python clock.py '{...}'` prints one line of JSON.

Models take turns of a few forwards, so that whatever else the machine does falls on all of them alike. The first of a turn is
not counted: it brings back into the processor's caches what the other models' weights have driven out, and who runs one model
pays for that once. Decoding, the time is that of one more token after those in the cache. Needs torch, transformers and the
loader of shrunk models, whose file it is told.
"""

import copy
import importlib.util
import json
import sys
import time
from pathlib import Path
from typing import Any

import torch
import transformers


def main() -> None:
    asked: dict[str, Any] = json.loads(sys.argv[1])
    output, sys.stdout = sys.stdout, sys.stderr  # what libraries print must not stand before the line of JSON
    torch.set_num_threads(asked["threads"])
    device = torch.device(asked["device"])
    models = [_load(Path(folder), asked["loader"], getattr(torch, asked["dtype"])).to(device) for folder in asked["folders"]]
    ids = torch.zeros(asked["batch"], asked["seqlen"], dtype=torch.long, device=device)
    seconds: list[list[float]] = [[] for _ in models]
    with torch.inference_mode():
        given: list[dict[str, Any]] = [{} for _ in models]
        if asked["is_decoding"]:
            given = [{"past_key_values": model(input_ids=ids, use_cache=True).past_key_values} for model in models]
            ids = ids[:, :1]
        while len(seconds[-1]) < asked["runs"]:
            for model, more, times in zip(models, given, seconds, strict=True):
                counted = min(asked["turn"], asked["runs"] - len(times))
                options = {**asked["options"], **more}
                spent = [_timed(model, ids, options, device) for _ in range(asked["warm_up"] + counted)]
                times += spent[asked["warm_up"] :]
    print(json.dumps({"seconds": seconds}), file=output, flush=True)


def _load(folder: Path, loader: str, dtype: torch.dtype) -> Any:
    if (folder / "shapes.json").exists():
        spec = importlib.util.spec_from_file_location("load_shrunk", loader)
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module.load(folder, dtype=dtype)
    config = transformers.AutoConfig.from_pretrained(folder)
    found = getattr(transformers, (config.architectures or ["AutoModelForCausalLM"])[0])
    return found.from_pretrained(folder, dtype=dtype).eval()


def _timed(model: Any, ids: torch.Tensor, options: dict[str, Any], device: torch.device) -> float:
    options = copy.deepcopy(options)  # a forward adds to the cache that it is given
    _wait(device)
    begin = time.perf_counter()
    model(input_ids=ids, **options)
    _wait(device)
    return time.perf_counter() - begin


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


if __name__ == "__main__":
    main()
