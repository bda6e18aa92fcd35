"""Soft prompts on frozen language models, the skill neurons they activate, and their robustness."""

__version__ = "0.1.0"
