"""Soft prompts on frozen language models, the skill neurons they activate, and their robustness."""

from skillneurons import api
from skillneurons.about import __version__
from skillneurons.api import *  # noqa: F403

__all__ = [*api.__all__, "__version__"]
