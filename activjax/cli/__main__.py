"""`python -m activjax.cli` is `activjax`."""

import sys

from activjax.cli import main

sys.exit(main())
