"""`python -m skillneurons`."""

import sys

from skillneurons.cli import main

if __name__ == "__main__":
    sys.exit(main())
