"""Compiles the hot modules: every module with a .pxd of the same name beside it.

PGFUNNEL_PURE=1 compiles nothing, PGFUNNEL_PURE=0 makes a failure to compile an error. Unset, a
failure leaves the same source to run uncompiled, and says so.
"""

import os
import sys
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.errors import BaseError, CCompilerError

PURE = os.environ.get("PGFUNNEL_PURE")
JOBS = os.cpu_count() or 1
DIRECTIVES = {
    "language_level": 3,
    "nonecheck": True,
    "annotation_typing": True,
    "cdivision": True,
    "infer_types": True,
}


def hot_modules() -> list[Path]:
    """The modules to compile, relative to this folder."""
    sources = (pxd.with_suffix(".py") for pxd in Path("proxy").rglob("*.pxd"))
    return sorted(source for source in sources if source.stem != "__init__" and source.exists())


def extension(source: Path) -> Extension:
    return Extension(
        ".".join(source.with_suffix("").parts),
        [source.as_posix()],
        depends=[source.with_suffix(".pxd").as_posix()],
        extra_compile_args=[] if sys.platform == "win32" else ["-O2"],
    )


class BuildHot(build_ext):
    """Compiles all of the hot modules or none: compiled ones call each other's C functions."""

    def run(self) -> None:
        from Cython.Compiler.Errors import CompileError

        try:
            self.translate()
            self.parallel = JOBS
            super().run()
        except (BaseError, CCompilerError, CompileError) as failure:
            if PURE == "0":
                raise
            self.give_up(failure)

    def translate(self) -> None:
        """Sets every extension's sources to C, generated below build/."""
        from Cython.Build import cythonize

        translated = cythonize(
            self.extensions,
            build_dir="build/cython",
            compiler_directives=DIRECTIVES,
            nthreads=JOBS,
            quiet=True,
        )
        sources = {ext.name: ext.sources for ext in translated}
        for ext in self.extensions:
            ext.sources = sources[ext.name]

    def give_up(self, failure: Exception) -> None:
        for ext in self.extensions:
            name = self.get_ext_filename(ext.name)
            for built in (Path(self.build_lib, name), Path(name)):
                built.unlink(missing_ok=True)
        self.extensions = self.distribution.ext_modules = []
        sentence = (
            f"pgfunnel: the hot modules could not be compiled ({failure}); they run as plain "
            "Python, several times slower. A C compiler and Python's headers (Debian: gcc, "
            "python3-dev) make them fast."
        )
        print(sentence, file=sys.stderr)


if __name__ == "__main__":
    modules = [] if PURE == "1" else [extension(source) for source in hot_modules()]
    setup(ext_modules=modules, cmdclass={"build_ext": BuildHot})
