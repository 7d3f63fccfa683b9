"""Cut face crops out of images: regions, resizing, tilted heads upright, and how stable a crop's landmarks are."""
