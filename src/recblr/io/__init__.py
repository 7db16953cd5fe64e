"""Files: written whole or not at all, read with a sentence for whatever is wrong.  Imports no torch."""
