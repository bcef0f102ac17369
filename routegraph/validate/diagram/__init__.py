"""Ratio against bits at equal bytes: what is kept of a model's answers, measured, predicted and simulated."""
