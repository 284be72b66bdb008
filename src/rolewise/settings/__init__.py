"""Settings, one definition each: frozen, checked, without torch. `rolewise.config` makes a run's tree of them."""

from rolewise.settings.base import Integer, Number, Section, check_names, explain, field_names, settings
from rolewise.settings.options import STUDENT, RecipeOptions, TrainOptions
from rolewise.settings.plain import plain, read_settings_file, read_value
from rolewise.settings.search import SearchOptions, SearchSettings
from rolewise.settings.train import ComputeSettings, TrainRecipe

__all__ = [
    "STUDENT",
    "ComputeSettings",
    "Integer",
    "Number",
    "RecipeOptions",
    "SearchOptions",
    "SearchSettings",
    "Section",
    "TrainOptions",
    "TrainRecipe",
    "check_names",
    "explain",
    "field_names",
    "plain",
    "read_settings_file",
    "read_value",
    "settings",
]
