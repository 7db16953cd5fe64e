"""Reads data files and data frames: finds the format and the columns, and checks the values."""
