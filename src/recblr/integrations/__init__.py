"""Connections to other programs: the authors' released checkpoints, and RecBole."""
