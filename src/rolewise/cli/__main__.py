"""`python -m rolewise.cli`, where the script is not on the PATH."""

import sys

from rolewise.cli import main

sys.exit(main())
