"""Small valid files of every kind and filter, one of which may be mutated."""

import json
import random
import shutil
from collections.abc import Iterator
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np

#: Of a Zarr store, the name of its only array.
ARRAY = "g/x"


def mutate(data: bytes, rng: random.Random) -> bytes:
    """Change a few bytes, fields or pieces of a file."""
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 4, 8))):
        at = rng.randrange(len(changed)) if rng.random() < 0.5 else rng.randrange(min(3000, len(changed)))
        match rng.randrange(6):
            case 0:
                changed[at] ^= 1 << rng.randrange(8)
            case 1:
                changed[at] = rng.choice((0, 1, 0x7F, 0x80, 0xFF))
            case 2:
                field = rng.choice((0, 1, 2**31, 2**63, 2**64 - 1)).to_bytes(8, "little")
                size = rng.choice((2, 4, 8))
                changed[at : at + size] = field[:size]
            case 3:
                del changed[at : at + rng.choice((1, 8, 512))]
            case 4:
                other = rng.randrange(len(changed))
                changed[at : at + 16] = changed[other : other + 16]
            case 5:
                del changed[at:]
        if len(changed) < 16:
            break
    return bytes(changed)


class Specimen(NamedTuple):
    """A small valid file, or a store as a folder of files by their names."""

    suffix: str
    files: dict[str, bytes]

    def write(self, path: Path, rng: random.Random | None = None) -> None:
        """The file, or the store; with a generator, one of the files is mutated."""
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
        mutated = rng and rng.choice(sorted(self.files))
        for name, data in self.files.items():
            file = path / name if name else path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(mutate(data, rng) if rng and name == mutated else data)


def specimens(made: Path) -> list[Specimen]:
    """Of every kind that is read."""
    x = np.random.default_rng(3).standard_normal((3, 2, 6, 6)).astype("f4")
    np.save(made / "a.npy", x)
    np.save(made / "b.npy", np.asfortranarray(x.astype(">f8")))
    np.savez(made / "c.npz", x=x, y=x[:, :, ::2], labels=np.arange(3), notes=np.array([{}], object))
    np.savez_compressed(made / "d.npz", x=x, labels=np.arange(3))
    text = tensors_header({"x": [3, 2, 6, 6], "y": [1, 2, 3, 4], "labels": [3]})
    (made / "e.safetensors").write_bytes(len(text).to_bytes(8, "little") + text + bytes(4 * 243))
    for i, filters in enumerate(hdf5_filters()):
        with h5py.File(made / f"{i:02}.h5", "w", libver="latest" if i % 2 else None) as file:
            file.create_dataset("g/x", data=x, **filters)
            file["labels"] = np.arange(3)
            file["names"] = np.array(["a", "b"], h5py.string_dtype())
            file.create_dataset("table", (2,), [("a", "i4"), ("r", h5py.ref_dtype)])
            file["g/x"].attrs["of"] = file["labels"].ref
            file["g/x"].dims[0].label = "n"
            file["soft"] = h5py.SoftLink("/g/x")
    write_zarr_stores(made, x)
    return [
        Specimen(
            "".join(path.suffixes),
            {
                "" if path.is_file() else str(file.relative_to(path)): file.read_bytes()
                for file in sorted((path, *path.rglob("*")))
                if file.is_file()
            },
        )
        for path in sorted(made.iterdir())
    ]


def hdf5_filters() -> Iterator[dict[str, Any]]:
    """How a dataset is stored, by the library's own filters and by those of hdf5plugin, if it is there."""
    yield {}
    yield {"chunks": (1, 2, 6, 6)}
    yield {"chunks": (2, 1, 4, 4), "compression": "gzip", "shuffle": True, "fletcher32": True}
    yield {"chunks": (1, 1, 6, 6), "compression": "lzf", "maxshape": (None, 2, 6, 6)}
    yield {"chunks": (3, 2, 6, 6), "compression": "gzip"}
    if h5py.h5z.filter_avail(h5py.h5z.FILTER_SZIP):
        yield {"chunks": (1, 2, 6, 6), "compression": "szip"}
    yield {"chunks": (1, 2, 6, 6), "scaleoffset": 3}
    with suppress(ImportError):  # the extra filters
        import hdf5plugin as they

        filters = [
            they.Blosc2(),
            they.Zstd(),
            they.LZ4(),
            they.BZip2(),
            they.Zfp(reversible=True),
            they.SZ3(absolute=0.01),
        ]
        filters += [they.Blosc(cname=name) for name in ("blosclz", "lz4", "snappy", "zlib", "zstd")]
        filters += [they.Bitshuffle(cname=name) for name in ("lz4", "none", "zstd")]
        for one in filters:
            yield {"chunks": (1, 2, 6, 6), **one}
        yield {"chunks": (1, 2, 4, 4), "shuffle": True, "fletcher32": True, **they.LZ4(nbytes=64)}


def write_zarr_stores(made: Path, x: np.ndarray) -> None:
    """Stores of both versions, as archives and as folders, if zarr is there."""
    with suppress(ImportError):  # the extra zarr
        import numcodecs
        import zarr
        from zarr.codecs import BloscCodec, GzipCodec, ZstdCodec

        sharded = {"shards": (2, 2, 6, 6)}
        for suffix, version, options in (
            (".zarr.zip", 2, {}),
            (".zarr.zip", 3, sharded),
            (".zarr", 2, {"compressors": numcodecs.Blosc()}),
            (".zarr", 2, {"compressors": numcodecs.LZ4()}),
            (".zarr", 3, {"compressors": BloscCodec()}),
            (".zarr", 3, {"compressors": [ZstdCodec(checksum=True)]}),
            (".zarr", 3, {"compressors": [GzipCodec()], **sharded}),
            (".zarr", 3, {"compressors": [ZstdCodec()], **sharded}),
        ):
            path = made / f"{len(list(made.iterdir())):02}{suffix}"
            with (
                zarr.storage.ZipStore(path, mode="w")
                if suffix.endswith("zip")
                else nullcontext(path) as store
            ):
                zarr.create_array(
                    store,
                    name=ARRAY,
                    data=x,
                    chunks=(1, 2, 3, 6),
                    zarr_format=version,
                    attributes={"of": "labels"},
                    **options,
                )


def tensors_header(shapes: dict[str, list[int]]) -> bytes:
    """The header of a safetensors file of float32."""
    entries: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    start = 0
    for name, shape in shapes.items():
        stop = start + 4 * int(np.prod(shape))
        entries[name] = {"dtype": "F32", "shape": shape, "data_offsets": [start, stop]}
        start = stop
    text = json.dumps(entries).encode()
    return text + b" " * (-len(text) % 8)
