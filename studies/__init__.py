"""Studies: each measures or simulates, and writes a page of docs/, or a table of one."""
