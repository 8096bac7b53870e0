"""The load certificate: what other people's software says of an artifact, in a fresh process."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from compression.errors import VerificationError
from compression.formats import certificate
from compression.formats.certificate import Loader, certify
from compression.formats.loaders.outcome import GENERATED_TOKENS, PROMPT_TOKENS
from compression.probe import Probe
from tests import tiny_models


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_models.save(tmp_path_factory.mktemp("artifact") / "model")


@torch.inference_mode()
def probe_of(folder: Path) -> Probe:
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    ids_WL = torch.randint(tiny_models.VOCABULARY, (2, 40), generator=torch.Generator().manual_seed(0))
    return Probe(ids_WL, torch.stack([model(input_ids=ids[None]).logits[0] for ids in ids_WL]))


def test_artifact_that_is_what_the_pass_saw_is_ok_and_speaks(artifact: Path, tmp_path: Path) -> None:
    probe = probe_of(artifact)
    found = certify(artifact, "dense", probe, tmp_path, "cpu", parameters=1000)
    assert found.verification.verdict == "ok"
    assert found.verification.loader.startswith("transformers ")
    assert found.verification.max_logit_difference == pytest.approx(0, abs=1e-5)
    assert found.verification.kl == pytest.approx(0, abs=1e-8)
    model = AutoModelForCausalLM.from_pretrained(artifact, dtype=torch.float32)
    greedy = model.generate(  # type: ignore[misc]
        probe.ids_WL[:1, :PROMPT_TOKENS], do_sample=False, max_new_tokens=GENERATED_TOKENS
    )
    expected = greedy[0, PROMPT_TOKENS:].tolist()
    assert found.generated is not None and found.generated[: len(expected)] == expected
    assert list(tmp_path.iterdir()) == []


def test_artifact_with_other_weights_is_refused_with_the_figure(artifact: Path, tmp_path: Path) -> None:
    probe = probe_of(artifact)
    with pytest.raises(VerificationError, match=r"predictions are \d\S* nats \(KL\) from those that the pass measured"):
        certify(artifact, "dense", Probe(probe.ids_WL, probe.outputs.roll(1, -1) * 20), tmp_path, "cpu", parameters=1000)


def test_artifact_that_does_not_load_is_refused_with_what_the_loader_said(tmp_path: Path) -> None:
    folder = tiny_models.save(tmp_path / "model")
    probe = probe_of(folder)
    tensors = load_file(folder / "model.safetensors")
    name = "model.layers.0.mlp.up_proj.weight"
    save_file(tensors | {name: tensors[name][:5].clone()}, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(VerificationError, match=r"does not load \(with_transformers\.py\): .*mismatch"):
        certify(folder, "dense", probe, tmp_path, "cpu", parameters=1000)


def test_absent_loader_means_not_verified_never_ok(artifact: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(certificate.LOADERS, "dense", Loader(("a_package_that_nobody_wrote",), "with_transformers.py"))
    found = certify(artifact, "dense", probe_of(artifact), tmp_path, "cpu", parameters=1000)
    assert found.verification.verdict == "not verified"
    assert found.verification.detail == "not installed here: a_package_that_nobody_wrote"
    assert found.generated is None
