"""Read file formats with checks before anything is believed, and name files that are of another kind."""
