"""The command line: typer for arguments, rich for tables; a command is a file, `main` puts them together."""
