"""One conversion in a process of its own: Lite's Converter crashes on some damaged files.

Run by `runtime.lite.convert` as a script, with one JSON argument; imports nothing of the project.
"""

import ctypes
import json
import sys

ERROR_ROOM = 4096


def main() -> None:
    """Convert; on failure exit 1 with Lite's status as the last line of stderr."""
    job = json.loads(sys.argv[1])
    error = ctypes.create_string_buffer(ERROR_ROOM)
    texts = [job[name].encode() for name in ("model", "output")]
    config = job["config"].encode() if job["config"] else None
    convert = ctypes.CDLL(job["shim"]).synergy_lite_convert
    flags = (int(job["nhwc"]), int(job["weight_fp16"]))
    if convert(job["framework"], *texts, *flags, config, error, ctypes.c_size_t(ERROR_ROOM)) != 0:
        sys.exit(error.value.decode(errors="replace") or "no reason given")


if __name__ == "__main__":
    main()
