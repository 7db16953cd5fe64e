"""Code that several operators share: checks, memory layouts, registration, derivatives, native libraries."""
