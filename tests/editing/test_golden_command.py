"""Parity through the command line: ``unierase edit model=hf edit=reference`` gives the reference's weights (golden case a), and
``edit=memit_reference`` MEMIT's closed form on the same keys, values and covariance."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from typer.testing import CliRunner

from unierase_cli.cli.app import app

pytestmark = pytest.mark.slow

LAYERS = [2, 3, 4]


def edited(golden: Path, tmp_path: Path, *settings: str) -> Path:
    """The artefact of the golden facts' edit, made by the command."""
    inputs = json.loads((golden / "inputs.json").read_text("utf-8"))
    facts, corpus = tmp_path / "facts.jsonl", tmp_path / "corpus.jsonl"
    rows = [{key: sample[key] for key in ("question", "answer", "subject")} for sample in inputs["samples"]]
    facts.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    corpus.write_text("".join(json.dumps({"text": text}) + "\n" for text in inputs["cov_texts"]), "utf-8")
    words = [
        "edit", "model=hf", f"model.path={golden / 'models' / 'tiny-llama'}", "train=none", "benchmark=jsonl",
        f"benchmark.path={facts}", "token=existing", *settings, "edit.layers=[2,3,4]", "edit.templates.starts=[]",
        f"edit.moments.corpus={corpus}", f"run.outputs={tmp_path / 'out'}", "run.threads=1", "--json",
    ]  # fmt: skip
    done = CliRunner().invoke(app, words, prog_name="unierase")
    assert done.exit_code == 0, done.stderr
    return Path(json.loads(done.stdout)["path"])


@pytest.mark.parametrize(("case", "lambda_"), [("a", 1.0), ("f", 10.0)])
def test_golden_edit_by_command(shared: Path, tmp_path: Path, case: str, lambda_: float) -> None:
    golden = shared / "golden" / "edit"
    artefact = edited(golden, tmp_path, "edit=reference", "edit.threshold=0.1259", f"edit.lambda_={lambda_}")
    factors = load_file(str(artefact / "patch-000.safetensors"))
    info = json.loads((artefact / "patch-000.json").read_text("utf-8"))
    expected = json.loads(next(golden.glob(f"{case}_alphaedit*.json")).read_text("utf-8"))
    tensors = load_file(str(golden / "a_alphaedit_batch12.safetensors"))
    for number, layer in enumerate(LAYERS):
        delta = factors[f"layer.{layer}.left"] @ factors[f"layer.{layer}.right"].T
        if case == "a":
            wanted = tensors[f"step00.delta_W.layer{layer}"]
            assert torch.linalg.norm(delta - wanted) / torch.linalg.norm(wanted) < 1e-4
        assert float(torch.linalg.norm(delta)) == pytest.approx(expected["scalars"]["delta_fro"][number], rel=1e-4)
    log_probs = torch.tensor(info["info"]["first_token_probability"]).log()
    assert log_probs.tolist() == pytest.approx(expected["scalars"]["after"]["logp_unlearn"], rel=1e-4)


def test_golden_memit_by_command(shared: Path, tmp_path: Path) -> None:
    golden = shared / "golden" / "edit"
    factors = load_file(str(edited(golden, tmp_path, "edit=memit_reference") / "patch-000.safetensors"))
    # The first edited layer's inputs are those of the unedited model, which case a recorded.
    case = {name: tensor.double() for name, tensor in load_file(str(golden / "a_alphaedit_batch12.safetensors")).items()}
    covariance = load_file(str(golden / "covariance_projection.safetensors"))["C0.layer2"].double()
    keys = case["step00.K_used.layer2"].T
    residuals = (case["step00.z"] - case["step00.cur_z.layer2"]).T / len(LAYERS)
    wanted = residuals @ torch.linalg.solve(15000 * covariance + keys @ keys.T, keys).T
    delta = (factors["layer.2.left"] @ factors["layer.2.right"].T).double()
    assert torch.linalg.norm(delta - wanted) / torch.linalg.norm(wanted) < 1e-4
