"""Where recblr meets other programs: the authors' released checkpoints, and RecBole."""
