"""Reading data files and frames: which format a file has, its columns, and what their values may be."""
