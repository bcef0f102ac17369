"""What the command line makes of hostile input, and what a kill leaves behind: `make fuzz-cli`, `make kills`."""
