"""What a run needs on the disk, against a run that was made."""

import pytest

from rolewise import networks
from rolewise.config import load_config
from rolewise.progress import Progress
from rolewise.runs import RunDirectory
from rolewise.stages import Pipeline
from rolewise.stages.estimate import bytes_needed


class Said(Progress):
    def __init__(self):
        self.notes = []

    def note(self, text):
        self.notes.append(text)


@pytest.mark.parametrize("name", sorted(networks.NETWORKS))
def test_every_network_can_be_counted(name):
    config = load_config(assignments=[f"teacher.network={name}", "search.population=4"])
    count = sum(p.numel() for p in networks.build(name, num_classes=10).parameters())
    assert bytes_needed(config, 10, (3, 32, 32)) == 4 * 2 * 3 * (4 + 2) * 2 * count


@pytest.mark.parametrize(("free", "notes"), [(10_000, 1), (10**15, 0), (None, 0)])
def test_a_disk_that_is_too_small_is_named_at_the_start(tmp_path, monkeypatch, free, notes):
    monkeypatch.setattr("rolewise.stages.pipeline.free_bytes", lambda path: free)
    config, said = load_config(), Said()
    with RunDirectory.create(tmp_path / "run", config.model_dump()) as run:
        Pipeline(config, run, progress=said).note_room()
    assert len(said.notes) == notes
    assert all(str(tmp_path / "run") in note and "MB" in note for note in said.notes)
