"""The deployment runtime: engines, and everything between a picture and its faces. No MindSpore outside its engine."""
