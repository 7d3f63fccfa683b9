"""The page that a bundle is handed over with: what it is, the proof, and what was measured, in one file."""
