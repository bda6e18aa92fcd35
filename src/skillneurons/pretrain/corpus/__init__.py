"""Texts to pretrain on: read, freed of test rows, tokenized."""
