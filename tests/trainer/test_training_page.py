"""`docs/training.md` names every setting of a training."""

from pathlib import Path

from rolewise.config import PRESETS
from rolewise.settings import TrainRecipe, field_names

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "training.md").read_text("utf-8")


def test_every_setting_is_on_the_page():
    table = PAGE[PAGE.index("## Settings") : PAGE.index("## Mixup")]
    missing = [name for name in field_names(TrainRecipe) if f"`{name}`" not in table]
    assert not missing
    assert len(field_names(TrainRecipe)) > 20


def test_what_the_strong_presets_add_is_on_the_page():
    section = PAGE[PAGE.index("## The presets") :]
    for name, preset in PRESETS.items():
        if name.startswith("strong-"):
            for key, value in preset["student"]["train"].items():
                assert f"`{key}: {value}`" in section
