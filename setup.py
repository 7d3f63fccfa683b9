"""Map the folders of the source tree into one import package, `synergy`. All other settings are in pyproject.toml."""

from __future__ import annotations

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

FOLDERS = ("runtime", "synergy_model", "export", "benchmarks")


class BuildPy(build_py):
    """Adds the tree's `cli.py` to the package as `synergy.cli`."""

    def find_package_modules(self, package: str, package_dir: str) -> list[tuple[str, str, str]]:
        modules = super().find_package_modules(package, package_dir)
        return [*modules, ("synergy", "cli", "cli.py")] if package == "synergy" else modules


setup(
    cmdclass={"build_py": BuildPy},
    packages=[
        "synergy",
        *(f"synergy.{folder}" for folder in FOLDERS),
        *(f"synergy.{folder}.{package}" for folder in FOLDERS for package in find_packages(folder)),
    ],
    package_dir={"synergy": "synergy", **{f"synergy.{folder}": folder for folder in FOLDERS}},
)
