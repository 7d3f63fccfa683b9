#!/usr/bin/env bash
# Verify a bundle on an emulated aarch64 CPU with MindSpore Lite: from C++, then from Python.
#
#   examples/aarch64/verify.sh BUNDLE [WORK_FOLDER]
#
# For Debian on x86-64. Once, as root:
#   dpkg --add-architecture arm64 && apt-get update
#   apt-get install -y unzip qemu-user g++-aarch64-linux-gnu libc6-dev-arm64-cross
# PYTHON names a Python that has this project installed (default: .venv/bin/python).
# It downloads 150 MB. Emulation is slow: about 2 minutes of CPU time for the C++ part, 5 for Python.
# onnxruntime is not verified: qemu 7.2 of Debian 12 crashes when it is imported.
set -euo pipefail

root=$(cd "$(dirname "$0")/../.." && pwd)
bundle=$(realpath "${1:?usage: verify.sh BUNDLE [WORK_FOLDER]}")
work=$(realpath -m "${2:-$root/build/aarch64}")
python=${PYTHON:-$root/.venv/bin/python}
compiler=aarch64-linux-gnu-g++
for tool in unzip qemu-aarch64 $compiler; do
  command -v "$tool" > /dev/null || { echo "$tool is missing: see the head of $0" >&2; exit 1; }
done
mkdir -p "$work" && cd "$work"

echo "== MindSpore Lite 2.0.0 for aarch64"
if [ ! -d lite/mindspore_lite ]; then
  "$python" -m pip download --quiet --no-deps --only-binary=:all: --dest wheels \
    --python-version 3.7 --implementation cp --abi none --platform any mindspore-lite==2.0.0
  "$python" -c 'from synergy.runtime.lite.install import WHEELS; print(WHEELS["aarch64"].sha256, "", *__import__("glob").glob("wheels/mindspore_lite*"))' |
    sha256sum --check --quiet
  unzip -q -o wheels/mindspore_lite-*.whl -d lite
fi

echo "== the C++ example, cross-compiled"
lite=$work/lite/mindspore_lite
(cd "$root/examples/cpp" && $compiler -O2 -std=c++17 -ffp-contract=off -isystem "$lite" -isystem "$lite/include" \
  main.cpp image.cpp crop.cpp flat_json.cpp manifest.cpp landmark_model.cpp golden_file.cpp verify.cpp \
  -o "$work/face_landmarks" "$lite/lib/libmindspore-extendrt_python.so" \
  -Wl,-rpath,"$lite/lib" -Wl,--disable-new-dtags -Wl,--allow-shlib-undefined)
"$python" -m synergy golden "$bundle" --plain golden.bin
GLOG_v=4 qemu-aarch64 -L /usr/aarch64-linux-gnu ./face_landmarks --verify golden.bin "$bundle"

echo "== CPython and its packages for aarch64"
if [ ! -d system ]; then
  mkdir -p debs system.part
  (cd debs && apt-get -o APT::Sandbox::User=root download --quiet \
    python3.11-minimal:arm64 libpython3.11-minimal:arm64 libpython3.11-stdlib:arm64 libc6:arm64 libstdc++6:arm64 \
    libgcc-s1:arm64 zlib1g:arm64 libexpat1:arm64 libffi8:arm64 libssl3:arm64 libbz2-1.0:arm64 liblzma5:arm64)
  for package in debs/*.deb; do dpkg-deb -x "$package" system.part; done
  mv system.part system
fi
[ -d packages ] || "$python" -m pip install --quiet --only-binary=:all: --target packages --python-version 3.11 \
  --platform manylinux2014_aarch64 --platform manylinux_2_28_aarch64 \
  numpy 'opencv-python-headless<5' typer rich msgspec platformdirs

# Child processes are started through this file, because the kernel cannot start aarch64 programs.
cat > python3 <<END
#!/bin/sh
exec qemu-aarch64 -L "$work/system" -E PYTHONHOME="$work/system/usr" "$work/system/usr/bin/python3.11" "\$@"
END
chmod +x python3
export PYTHONPATH=$root:$work/packages PYTHONPYCACHEPREFIX=$work/pycache SYNERGY_DATA_HOME=$work/data
export SYNERGY_LITE_HOME=$work/lite CXX=$compiler
synergy() { ./python3 -c 'import sys; sys.executable = sys.argv.pop(1); from synergy.cli import main; main()' "$work/python3" "$@"; }

echo "== the binding, cross-compiled, and MindSpore Lite from Python"
synergy lite install
synergy verify "$bundle" --engine lite --threads 2 --json verified.json
