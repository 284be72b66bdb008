"""What a run reports while it works: `Progress`, the listener that library code calls, and listeners that keep a log.

`docs/progress.md` shows them. The command line's own display is `rolewise.cli.display`.
"""

from rolewise.progress.base import Progress, Several, Step
from rolewise.progress.csv_log import CsvLog
from rolewise.progress.tensorboard_log import TensorBoardLog

__all__ = ["CsvLog", "Progress", "Several", "Step", "TensorBoardLog"]
