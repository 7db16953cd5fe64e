"""Stores of events: in memory, on the disk of one machine, and in Redis.  They work without torch."""
