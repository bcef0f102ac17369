"""The ratio to deploy, with a guarantee: one for all prompts, or prompt by prompt."""
