"""Results on disk: whole, checked when they are read, and never lost while another takes their place.

Two forms. A saved attribution is one folder whose marker names all data with their checksums (`marked_folder`,
`attributions`). A job's store is many committed blocks, each under its own marker, in a folder or wherever fsspec
reaches (`backend`, `blocks`): scores are one zarr array (`array`), names and columns blocks of rows (`columns`), what
else is kept tensors without pickle (`tensors`). In both the truth is the marker: data that none names are nobody's.
"""

from upweight.store.backend import Backend, Local, Memory, Remote

__all__ = ["Backend", "Local", "Memory", "Remote"]
