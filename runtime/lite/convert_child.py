"""Child process of `runtime.lite.convert`: one conversion, because Lite's Converter crashes on some damaged files.

A script with one JSON argument; it imports nothing of the package.
"""

import ctypes
import json
import sys

ERROR_BYTES = 4096


def main() -> None:
    """Convert; on failure, exit 1 with Lite's status as the last line of stderr."""
    job = json.loads(sys.argv[1])
    error = ctypes.create_string_buffer(ERROR_BYTES)
    texts = [job[name].encode() for name in ("model", "output")]
    config = job["config"].encode() if job["config"] else None
    convert = ctypes.CDLL(job["shim"]).synergy_lite_convert
    flags = (int(job["nhwc"]), int(job["weight_fp16"]))
    if convert(job["framework"], *texts, *flags, config, error, ctypes.c_size_t(ERROR_BYTES)) != 0:
        sys.exit(error.value.decode(errors="replace") or "no reason given")


if __name__ == "__main__":
    main()
