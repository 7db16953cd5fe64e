"""Files: atomic writes, and reads that explain each error in one sentence.  Imports no torch."""
