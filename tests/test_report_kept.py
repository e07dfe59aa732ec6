"""What a run keeps for its report: right to known precision, small, and the same however the run went."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from reports import explained
from runs import contents

import cam
from cam.errors import UsageError
from cam.explanations.options import ExplainOptions
from cam.images.find import find_pictures
from cam.maps.activation import AllClasses
from cam.report.evidence import QUANTUM, EvidenceWriter, keep
from cam.report.packing import pack, unpack
from cam.report.read import Kept
from cam.report.write import write_report
from cam.runs.manifest import files_of, read_records
from cam.runs.merge import merge_shards
from cam.runs.options import RunOptions
from cam.runs.run import explain_folder

COUNT = 14
SAMPLES = Path(__file__).parents[1] / "samples"
OPTIONS = {"outputs": (EvidenceWriter(),), "batch_size": 4}


@settings(max_examples=60)
@given(
    arrays(np.float64, array_shapes(max_dims=3, max_side=5), elements=st.floats(-1e5, 1e5)),
    st.sampled_from([1.0, QUANTUM, 2.0**-15]),
)
def test_packed_numbers_are_off_by_half_a_quantum_at_most(values, quantum):
    packed = pack(values, quantum)
    read = unpack(packed).astype(np.float64)
    assert read.shape == values.shape
    slack = np.abs(values) * np.finfo(np.float32).eps  # of the float32 they are read into
    assert (np.abs(read - values) <= quantum / 2 + slack).all()
    assert json.loads(json.dumps(packed)) == packed


def all_classes(classes: int, channels: int, side: int = 7, scale: float = 1.0, seed: int = 0) -> AllClasses:
    """Of features as behind a ReLU, or of maps where there are as many channels as classes."""
    torch.manual_seed(seed)
    features = torch.randn(channels, side, side).relu() * 3
    weight = None if channels == classes else torch.randn(classes, channels) / 8
    bias = torch.randn(classes)
    cams = features if weight is None else torch.einsum("ck,khw->chw", weight * scale, features)
    logits = cams.mean((1, 2)) + bias
    return AllClasses(logits, logits.softmax(0), logits, bias, features, weight, scale)


def read(kept: dict, weight: torch.Tensor | None) -> np.ndarray:
    values = unpack(kept["values"])
    if kept["kind"] != "features":
        return values
    return np.tensordot(weight.numpy().astype(np.float64) * kept["scale"], values, 1)


@pytest.mark.parametrize(
    ("classes", "channels", "kind"), [(1000, 512, "features"), (1000, 2048, "classes"), (9, 30, "classes")]
)
@pytest.mark.parametrize("scale", [1.0, 0.37])
def test_maps_of_all_classes_are_right_to_half_a_quantum(classes, channels, kind, scale):
    evidence = all_classes(classes, channels, scale=scale)
    kept = keep(evidence, evidence.cams())
    assert kept["kind"] == kind
    assert np.abs(read(kept, evidence.weight) - evidence.cams()).max() <= QUANTUM / 2 + 1e-5
    assert len(json.dumps(kept)) <= 141_000


@pytest.mark.parametrize(("classes", "channels", "side"), [(1000, 512, 7), (9, 30, 7), (2, 2, 7), (1000, 1000, 13)])
def test_with_the_maps_goes_what_compares_them_to_all_others(classes, channels, side):
    evidence = all_classes(classes, channels, side)
    cams = evidence.cams()
    best, winner, second, total = unpack(keep(evidence, evidence.cams())["leaders"])
    ordered = np.sort(cams, axis=0)
    assert np.abs(best - ordered[-1]).max() <= QUANTUM / 2 + 1e-5
    assert np.abs(second - ordered[-2]).max() <= QUANTUM / 2 + 1e-5
    assert (winner / QUANTUM == cams.argmax(0)).all()
    scores = torch.from_numpy(cams) + evidence.bias[:, None, None]
    assert np.abs(total - scores.logsumexp(0).numpy()).max() <= QUANTUM / 2 + 1e-5


def test_what_is_too_much_is_cut_down_to_the_classes_that_matter():
    evidence = all_classes(1000, 1000, side=13)
    kept = keep(evidence, evidence.cams())
    assert kept["kind"] == "some"
    assert 110_000 < len(json.dumps(kept)) <= 146_000
    classes, cams = kept["classes"], evidence.cams()
    assert len(set(classes)) == len(classes)
    assert np.abs(unpack(kept["values"]) - cams[classes]).max() <= QUANTUM / 2 + 1e-5
    logits = evidence.logits.numpy()
    assert classes[:5] == np.argsort(-logits, kind="stable")[:5].tolist()
    strongest = set(np.argsort(cams, axis=0)[-5:].ravel().tolist())
    assert set(classes) <= strongest or strongest <= set(classes)


def test_evidence_averaged_over_inputs_is_refused():
    with pytest.raises(UsageError, match="--tta averages several inputs, and --report needs"):
        RunOptions(explain=ExplainOptions(tta=True), outputs=(EvidenceWriter(),))


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Photographs, and a run over them that went through at once."""
    folder = tmp_path_factory.mktemp("kept")
    explained(folder, COUNT)
    return folder


@pytest.fixture(scope="module")
def classifier(tmp_path_factory) -> cam.Classifier:
    return explained(tmp_path_factory.mktemp("other"), 1)


def go(classifier, folder: Path, out: Path, report=lambda record: None, **options) -> None:
    explain_folder(classifier, find_pictures([folder / "photos"]), out, RunOptions(**OPTIONS, **options), {}, report)


@pytest.mark.parametrize("after", [1, 7, COUNT])
def test_a_report_of_a_run_cut_short_is_that_of_an_unbroken_one(classifier, folder, tmp_path, after):
    go(classifier, folder, tmp_path / "whole")
    write_report(tmp_path / "whole")
    seen = []

    def cut(record):
        seen.append(record)
        if len(seen) == after:
            raise RuntimeError

    with pytest.raises(RuntimeError):
        go(classifier, folder, tmp_path / "cut", cut)
    with pytest.raises(UsageError, match="holds no finished run"):
        write_report(tmp_path / "cut")
    go(classifier, folder, tmp_path / "cut")
    write_report(tmp_path / "cut")
    assert contents(tmp_path / "cut") == contents(tmp_path / "whole")
    write_report(tmp_path / "cut")  # and again
    assert contents(tmp_path / "cut") == contents(tmp_path / "whole")


def test_evidence_that_has_gone_is_made_again(classifier, folder, tmp_path):
    out = tmp_path / "out"
    go(classifier, folder, out)
    before = contents(out)
    (lost,) = (name for name in before if name.endswith("p9.png.js"))
    (out / lost).unlink()
    with pytest.raises(UsageError, match=r"p9\.png' has no evidence in .*--report"):
        write_report(out)
    go(classifier, folder, out)
    assert contents(out) == before


def test_what_a_run_without_a_report_replaces_is_gone(classifier, folder, tmp_path):
    go(classifier, folder, tmp_path / "out")
    named = [name for record in read_records(tmp_path / "out" / "manifest.jsonl") for name in files_of(record)]
    assert sum(name.startswith("report/pictures/") for name in named) == COUNT
    pictures = find_pictures([folder / "photos"])
    explain_folder(classifier, pictures, tmp_path / "out", RunOptions(overwrite=True))
    assert list((tmp_path / "out" / "report" / "pictures").iterdir()) == []


@pytest.mark.parametrize("apart", [False, True], ids=["one folder", "a folder each"])
def test_shards_give_the_same_report_after_they_are_merged(classifier, folder, tmp_path, apart):
    outs = [tmp_path / "runs" / (str(index) if apart else "all") for index in (1, 2)]
    for index, out in enumerate(outs, 1):
        go(classifier, folder, out, shard=(index, 2), scale=3.0)
    with pytest.raises(UsageError, match="after cam merge"):
        write_report(outs[0])
    merge_shards(outs)
    page = write_report(outs[0])
    go(classifier, folder, tmp_path / "runs" / "whole", scale=3.0)
    whole = write_report(tmp_path / "runs" / "whole")
    ours, theirs = (path.read_text("ascii").split('id="index">')[1] for path in (page, whole))
    assert abs(len(ours) - len(theirs)) < 400  # figures of batches of another size are rounded otherwise
    rows = [json.loads(text.split("</script>")[0])["pictures"] for text in (ours, theirs)]
    assert [row["name"] for row in rows[0]] == [row["name"] for row in rows[1]]
    for one, two in zip(*rows, strict=True):
        assert np.allclose(one["top"], two["top"], atol=1e-4)


def test_maps_are_read_back_as_python_computes_them(classifier, folder, tmp_path):
    go(classifier, folder, tmp_path)
    kept = Kept.open(tmp_path)
    for record in list(kept.records())[:3]:
        if record["status"] == "ok":
            evidence = kept.evidence(record)
            ours = cam.explain(classifier, record["path"], 2)
            assert np.abs(kept.cam(evidence, 2) - ours.cam).max() <= QUANTUM / 2 + 1e-5
