"""Which version this is, and where it lies."""

from pathlib import Path

__version__ = "0.1.0"
PACKAGE = Path(__file__).parent
