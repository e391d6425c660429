"""Learned sparse models: a text as weights of the terms of a vocabulary."""
