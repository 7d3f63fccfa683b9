"""The commands of `synergy`, one function each: parse, import what is needed, call one function, print."""
