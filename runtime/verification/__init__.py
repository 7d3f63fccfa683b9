"""Verification of a bundle on the machine where it runs, against the golden values that it carries."""
