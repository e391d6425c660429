"""Distillation: a small model learns the scores of a teacher."""
