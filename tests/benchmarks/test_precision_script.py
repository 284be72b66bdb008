"""The comparison of precisions at its smallest: it trains, pairs, records, and a second call trains nothing again."""

import json
import statistics

import precision
import pytest


def test_it_runs_and_resumes(tmp_path, capsys, monkeypatch):
    runs, results = tmp_path / "runs", tmp_path / "results" / "training.json"
    options = ["--smoke", "--out", str(runs), "--results", str(results), "--epochs", "1", "--seeds", "1"]
    precision.main([*options, "--bits", "32", "2"])
    out = capsys.readouterr().out
    assert len(out.splitlines()) == 4
    written = json.loads(results.read_text())
    assert (written["data"], written["network"], written["training images"]) == ("digits", "cnn-tiny", 256)
    assert [row["bits"] for row in written["rows"]] == [32, 2]
    for row in written["rows"]:
        assert row["seeds"] == [0]
        assert "bf16 minus fp32" not in row  # of one pair nothing is known about the spread
        for name in precision.PRECISIONS:
            done = json.loads((runs / f"{row['bits']}bit-{name}-seed0" / "done.json").read_text())
            assert row[name] == [done["accuracy"]] == [row[f"mean {name}"]]
    # The same weights and batches, another arithmetic.
    weights = {
        (runs / f"32bit-{name}-seed0" / "network.safetensors").read_bytes() for name in precision.PRECISIONS
    }
    assert len(weights) == 2
    monkeypatch.setattr(precision.rw, "train", lambda *_, **__: pytest.fail("trained again"))
    precision.main([*options, "--bits", "32", "2"])
    assert capsys.readouterr().out == out


def test_differences_are_paired_by_seed(tmp_path, capsys):
    """Two seeds whose trainings are done: bfloat16 minus float32, the mean and both signs kept."""
    accuracies = {"fp32": (0.50, 0.60), "bf16": (0.52, 0.61)}
    for name, values in accuracies.items():
        for seed, value in enumerate(values):
            folder = tmp_path / "runs" / f"32bit-{name}-seed{seed}"
            folder.mkdir(parents=True)
            (folder / "done.json").write_text(json.dumps({"accuracy": value, "n": 360}))
    results = tmp_path / "training.json"
    options = [
        "--smoke",
        "--out",
        str(tmp_path / "runs"),
        "--results",
        str(results),
        "--bits",
        "32",
        "--seeds",
        "2",
    ]
    precision.main(options)
    capsys.readouterr()
    row = json.loads(results.read_text())["rows"][0]
    difference = row["bf16 minus fp32"]
    assert difference["n"] == 2
    assert difference["mean"] == pytest.approx(statistics.mean((0.02, 0.01)))
    # t_0.975(1) = 12.706, standard deviation 0.01 / sqrt(2)
    assert difference["high"] - difference["mean"] == pytest.approx(12.706 * 0.005, rel=1e-3)
