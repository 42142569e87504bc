"""pgfunnel: a Postgres connection proxy for serverless functions."""

import os

__version__ = "0.1.0"


def _run_the_source() -> None:
    """Makes this package's imports see .py files alone, so that compiled modules lie idle."""
    import sys
    from importlib.machinery import SOURCE_SUFFIXES, FileFinder, SourceFileLoader
    from importlib.util import find_spec

    if find_spec("cython") is None:
        sys.exit("PGFUNNEL_PURE=1 needs Cython to run the source: pip install cython")
    (root,) = __path__

    def finder(folder: str) -> FileFinder:
        if folder != root and not folder.startswith(root + os.sep):
            raise ImportError(folder)
        return FileFinder(folder, (SourceFileLoader, SOURCE_SUFFIXES))

    sys.path_hooks.insert(0, finder)
    sys.path_importer_cache.pop(root, None)


if os.environ.get("PGFUNNEL_PURE") == "1":
    _run_the_source()
