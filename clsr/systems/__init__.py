"""Systems that are measured, one file each, behind one protocol."""
