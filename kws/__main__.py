"""`python -m kws` is `kws`."""

import sys

from kws.cli import main

sys.exit(main())
