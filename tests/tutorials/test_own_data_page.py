"""The tutorial on your own images runs, and its numbers are what it says."""

import json
from pathlib import Path

import pytest
from blocks import run_tutorial


def test_every_way_to_a_data_set(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    changes = {
        "--set teacher.train.epochs=10": "--set teacher.train.epochs=2 --set machine.threads=1 "
        "--set data.search_train=32 --set teacher.train.batch_size=16 --set search.batch_size=8 -q"
    }
    printed, names = run_tutorial("own-data", changes, lambda: capsys.readouterr().out)
    assert repr(names["data"].train) == "Split(160 RGB images, 24 x 24, 4 classes)"
    assert names["result"].n == 40
    assert names["shares"][3] > 0.5  # the class with three training images
    outputs = {line.split()[1]: text for line, text in printed}
    assert "train 160 images of 24 x 24, 4 classes of 40" in outputs["data"]
    assert "what each class (row) is taken for" in outputs["eval"]
    record = json.loads(Path("stripes/code/own.json").read_text())["data.name"]
    assert record["path"] == str(tmp_path / "stripes.py")
    assert Path("stripes", record["copy"]).read_text() == Path("stripes.py").read_text()


def test_what_the_first_training_learns(tmp_path, monkeypatch, capsys):
    """At the tutorial's own length: the stripes are learned."""
    monkeypatch.chdir(tmp_path)
    seen = {}

    def before(number, names):
        if number == 2:
            seen.update(names)
            raise StopIteration

    with pytest.raises(StopIteration):
        run_tutorial("own-data", {}, lambda: capsys.readouterr().out, before)
    assert seen["result"].accuracy > 0.8
