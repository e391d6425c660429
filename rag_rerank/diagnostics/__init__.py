"""Measure local models on this machine: tune their settings, check their fast forms."""
