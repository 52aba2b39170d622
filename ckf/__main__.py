"""``python -m ckf``: the same program as ``ckf``."""

import sys

from ckf.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
