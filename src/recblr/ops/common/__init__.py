"""What the operators share: checks, layouts, registration, derivatives, native loading, torch's privates."""
