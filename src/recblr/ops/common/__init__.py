"""What the operators share: checks, layouts, autocast, vmap, native libraries, and torch's private names."""
