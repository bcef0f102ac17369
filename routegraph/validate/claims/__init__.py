"""The claims C1 to C11 of arXiv 2603.01426, judged on what was measured."""
