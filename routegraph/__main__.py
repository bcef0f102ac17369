"""``python -m routegraph`` is the command line."""

from routegraph.cli import main

main()
