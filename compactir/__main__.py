"""`python -m compactir`: the command `compactc`, from a checkout that is not installed too."""

import sys

from compactir.cli import main

if __name__ == "__main__":
    sys.exit(main())
