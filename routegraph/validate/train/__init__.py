"""Tiny LLaMA and Qwen2 models that learn the word-level tasks from scratch, and the gate they have to pass."""
