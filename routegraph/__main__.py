"""``python -m routegraph`` is the command line."""

from routegraph.cli.main import main

main()
