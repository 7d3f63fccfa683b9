"""What MindSpore Lite needs on a GPU: libraries of the package index, and graphs with float32 inputs."""
