"""The HTML report of a bundle: parity, accuracy, latency, files and limits on one page."""
