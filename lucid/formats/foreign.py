"""Files of other kinds: what they are called, and how their arrays come into a file that is read.

A row recognises the beginning of a file by a regular expression. Rows are tried in order.
"""

import re
from typing import NamedTuple

#: Bytes of the beginning that the rows look at.
START_BYTES = 600

SAVE = "numpy.save"
_UNPACK = "unpack it and give the files in it"
_TENSORS = f"torch.load it, then {SAVE}(NAME, tensor.numpy()), or save it as safetensors"
_PIXELS = f"read it with Pillow, imageio or tifffile, then {SAVE}"
_COLUMNS = f"read it with pyarrow or pandas, stack the columns to N×C×H×W, then {SAVE}"


class Foreign(NamedTuple):
    """A kind of file, and the way out of it."""

    start: bytes
    name: str
    remedy: str


KINDS = (
    Foreign(rb"CDF[\x01\x02\x05]", "a netCDF-3 (classic) file", "convert it: nccopy -k nc4 IN.nc OUT.nc"),
    Foreign(
        rb"MATLAB 5\.0 MAT-file|.{124}(\x00\x01IM|\x01\x00MI)",
        "a MATLAB 5 MAT-file",
        "save it as HDF5: save('OUT.mat', '-v7.3')",
    ),
    Foreign(
        rb"\x0e\x03\x13\x01", "an HDF 4 file", "convert it: h4toh5 IN OUT, gdal_translate, or hdp dumpsds"
    ),
    Foreign(
        rb"\x80[\x02-\x05]\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19",
        "a PyTorch file (torch.save, legacy)",
        _TENSORS,
    ),
    Foreign(
        rb"\x80[\x02-\x05]([}\](cX\x8c]|\x95.{8})",
        "a pickle, which is not read because it can run code",
        f"load it where you trust it, then {SAVE}",
    ),
    Foreign(rb"\x1f\x8b", "compressed by gzip", "gunzip it, or: zcat FILE | lucid-pool -"),
    Foreign(rb"BZh[1-9]", "compressed by bzip2", "bunzip2 it"),
    Foreign(rb"\xfd7zXZ\x00", "compressed by xz", "unxz it"),
    Foreign(rb"\x28\xb5\x2f\xfd", "compressed by zstd", "unzstd it"),
    Foreign(rb".{257}ustar", "a tar archive", _UNPACK),
    Foreign(rb"7z\xbc\xaf\x27\x1c|Rar!", "a 7z or rar archive", _UNPACK),
    Foreign(rb"PK\x05\x06", "an empty zip archive", "nothing is in it"),
    Foreign(rb"PAR1", "a Parquet file", _COLUMNS),
    Foreign(rb"ARROW1|FEA1", "an Arrow or Feather file", _COLUMNS),
    Foreign(rb"II[\x2a\x2b]\x00|MM\x00[\x2a\x2b]", "a TIFF image", _PIXELS),
    Foreign(rb"\x89PNG\r\n\x1a\n", "a PNG image", _PIXELS),
    Foreign(rb"\xff\xd8\xff", "a JPEG image", _PIXELS),
    Foreign(rb"GIF8|RIFF....WEBP|BM....\x00\x00\x00\x00", "an image", _PIXELS),
    Foreign(rb"SIMPLE  =", "a FITS file", f"read it with astropy.io.fits, then {SAVE}"),
    Foreign(rb".{344}n(\+1|i1)\x00", "a NIfTI image", f"read it with nibabel, then {SAVE}"),
    Foreign(rb"GRIB", "a GRIB file", "convert it: cdo -f nc4 copy IN OUT.nc"),
    Foreign(rb"version https://git-lfs", "a Git LFS pointer, not the file itself", "fetch it: git lfs pull"),
    Foreign(rb"\s*<(?i:!doctype|html|\?xml)", "a web page or XML", "was the download refused?"),
)
#: Zip archives, which begin all alike: the name of a member tells them.
ZIP = b"PK\x03\x04"
TORCH_MEMBER = r"(.*/)?data\.pkl"
_TORCH = Foreign(ZIP, "a PyTorch file (torch.save)", _TENSORS)
_ZIPPED = Foreign(ZIP, "a zip archive of other files", _UNPACK)
#: Suffixes of files that begin with a header, by which a file without one is told to be raw.
_HEADED = (".npy", ".npz", ".safetensors")
_RAW = f"if it holds raw numbers, read them with numpy.fromfile or numpy.memmap, then {SAVE}"
#: What no text has in it.
_CONTROLS = rb"[\x00-\x08\x0e-\x1a]"


def description(start: bytes, suffix: str = "", member: str = "") -> str | None:
    """What a file is that begins so, and the way out, for an error; None for what is not known.

    `member` is the name in a zip archive that tells what it is.
    """
    if start.startswith(ZIP):
        kind: Foreign | None = _TORCH if re.fullmatch(TORCH_MEMBER, member) else _ZIPPED
    else:
        kind = next((kind for kind in KINDS if re.match(kind.start, start, re.DOTALL)), None)
    if kind is not None:
        return f"is {kind.name}; {kind.remedy}"
    if suffix in _HEADED:
        return f"has no header of a {suffix} file; {_RAW}"
    return f"is of no known format; {_RAW}" if re.search(_CONTROLS, start) else None
