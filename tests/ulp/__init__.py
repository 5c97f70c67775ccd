"""Measured errors of the elementary functions: what is sampled, what is true, and the table."""
