"""Make the whole files in ``seeds/`` anew: one or two small ones of every kind that a loader reads."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from redense.lab.checkpoint import save_tree
from redense.tasks.captioning.tokens import Vocabulary

SEEDS = Path(__file__).resolve().parent / "seeds"


def put(loader: str, name: str, data: bytes | str) -> None:
    """Write one."""
    path = SEEDS / loader / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data.encode() if isinstance(data, str) else data)


def pictures() -> None:
    """A gradient in each format, and what is special to some."""
    ramp = np.add.outer(np.arange(12), 2 * np.arange(16)) * 5
    colours = np.stack([ramp, ramp.T[:12, :12].repeat(2, 1)[:, :16], 255 - ramp], -1).astype(np.uint8)
    for kind in ("jpeg", "png", "webp", "bmp", "gif", "tiff", "ppm"):
        for name, picture in (("rgb", Image.fromarray(colours)), ("grey", Image.fromarray(ramp.astype(np.uint8)))):
            stream = io.BytesIO()
            picture.save(stream, kind)
            put(f"picture-{kind}", name, stream.getvalue())
    special = [
        ("png", "palette", Image.fromarray(colours).quantize(8), {"transparency": 3}),
        ("png", "deep", Image.fromarray((ramp * 200).astype(np.uint16)), {}),
        ("png", "alpha", Image.fromarray(colours).convert("RGBA"), {}),
        ("jpeg", "progressive", Image.fromarray(colours), {"progressive": True}),
        ("jpeg", "cmyk", Image.fromarray(colours).convert("CMYK"), {}),
        ("tiff", "deflate", Image.fromarray(colours), {"compression": "tiff_adobe_deflate"}),
        ("tiff", "lzw", Image.fromarray(colours), {"compression": "tiff_lzw"}),
        ("tiff", "bits", Image.fromarray(colours).convert("1"), {"compression": "group4"}),
        ("webp", "lossless", Image.fromarray(colours).convert("RGBA"), {"lossless": True}),
    ]
    for kind, name, picture, more in special:
        stream = io.BytesIO()
        picture.save(stream, kind, **more)
        put(f"picture-{kind}", name, stream.getvalue())
    frames = [Image.fromarray(np.roll(colours, shift, 1)) for shift in (0, 3, 6)]
    for kind in ("gif", "webp", "png", "tiff"):
        stream = io.BytesIO()
        frames[0].save(stream, kind, save_all=True, append_images=frames[1:])
        put(f"picture-{kind}", "frames", stream.getvalue())


def sounds() -> None:
    """A tone in each format."""
    import soundfile

    tone = (np.sin(np.arange(1600) / 5) * 0.4).astype(np.float32)[:900]
    stereo = np.stack([tone, -tone / 2], 1)
    kinds = {
        "wav": (("PCM_16", tone), ("FLOAT", stereo), ("ULAW", tone), ("IMA_ADPCM", tone)),
        "flac": (("PCM_16", stereo),),
        "ogg": (("VORBIS", tone),),
        "mp3": (("MPEG_LAYER_III", tone),),
        "aiff": (("PCM_24", tone),),
        "au": (("ALAW", tone),),
        "nist": (("PCM_16", tone),),
    }
    for kind, parts in kinds.items():
        for subtype, samples in parts:
            stream = io.BytesIO()
            soundfile.write(stream, samples, 16_000, format=kind.upper(), subtype=subtype)
            put(f"sound-{kind}", subtype.lower(), stream.getvalue())


def arrays() -> None:
    """Raw pixels, weights, checkpoints."""
    from safetensors.torch import save

    idx = bytes((0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0, 4, *range(24)))
    put("idx", "small", idx)
    put("idx-gz", "small", gzip.compress(idx, mtime=0))
    images, labels = np.arange(4 * 9, dtype=np.uint8).reshape(4, 3, 3), np.arange(4) % 2
    for name, save_them in (("stored", np.savez), ("packed", np.savez_compressed)):
        stream = io.BytesIO()
        save_them(stream, x_train=images, y_train=labels, x_test=images / 255, y_test=labels.astype("U3"))
        put("npz", name, stream.getvalue())
    put("cifar", "two", b"".join(bytes([label]) + bytes(range(256)) * 12 for label in (3, 9)))
    weights = {"weight": torch.ones(2, 2), "bias": torch.zeros(2)}
    put("safetensors", "linear", save(weights, {"by": "redense"}))
    stream = io.BytesIO()
    torch.save({"model": weights, "step": 3}, stream)
    put("torch", "zip", stream.getvalue())
    stream = io.BytesIO()
    torch.save(weights, stream, _use_new_zipfile_serialization=False)
    put("torch", "old", stream.getvalue())
    save_tree(SEEDS / "tree", {"model": {"w": torch.ones(2)}, "step": 3, "of": [1, (2.5, None)], "big": 1 << 70})
    put("checkpoint", "tree", (SEEDS / "tree").read_bytes())
    (SEEDS / "tree").unlink()


def texts() -> None:
    """Recipes, lists, tables, captions, vocabularies."""
    put(
        "recipe",
        "small",
        "name: x\ntask: classification\ndata: {source: a, size: 8}\nmodel: {name: mlp, widths: [8]}\n"
        "training: {batch_size: 6, optimizer: {name: sgd, lr: 0.02}}\n"
        "dense: {epochs: 1}\nsparse: {epochs: 1, sparsity: 0.3}\nredense:\n  epochs: 1\n",
    )
    cycles = "cycles:\n- sparse: {epochs: 1, sparsity: 0.2}\n  redense: {epochs: 1}\nprune: {exclude: ['*.bias']}\n"
    phases = "dense: {epochs: 1}\nsparse: {epochs: 2, sparsity: .5}\nredense: {epochs: 1}\n"
    put("recipe", "cycles", f"name: y\n{phases}{cycles}")
    put("manifest-jsonl", "two", '{"audio_filepath": "a.wav", "text": "a", "offset": 1.5, "duration": 2}\n' * 2)
    put("manifest-csv", "two", "file_name,transcription\na.wav,hola\nb.wav,adios\n")
    put("manifest-tsv", "two", "file_name\ttranscription\na.wav\thola\nb.wav\tadios\n")
    put("rows-csv", "quoted", 'image,label\na.png,"one, two"\n"b\n.png",cat\n')
    entry = {"filename": "a.png", "split": "train", "sentences": [{"raw": "a dog", "tokens": ["a", "dog"]}]}
    put("captions-karpathy", "one", json.dumps({"images": [entry]}))
    coco = {"images": [{"id": 1, "file_name": "a"}], "annotations": [{"image_id": 1, "caption": "a"}]}
    put("captions-coco", "one", json.dumps(coco))
    put("captions-tokens", "two", "a.jpg#0\tTwo dogs\na.jpg#1\tdogs\n")
    put("captions-bars", "one", "image_name| comment_number| comment\na.jpg| 0| Two dogs\nb.jpg| 4 a dog\n")
    put("captions-commas", "two", 'image,caption\na.jpg,Two dogs\nb.jpg,"a dog, black"\n')
    put(
        "captions-table",
        "two",
        '{"file_name": "a.png", "text": ["a dog", "dogs"]}\n{"file_name": "b.png", "text": "b"}\n',
    )
    put("vocabulary", "two", Vocabulary(("dog", "cat"), (5, 2, 3)).to_json())
    put("json", "nested", json.dumps({"a": [1, 2.5, None, True, {"b": "ü"}], "c": "d"}))
    put("arpa", "one", "\\data\\\nngram 1=3\n\n\\1-grams:\n-1.0\t<s>\t-0.3\n-1.2\thola\n-1.3\t</s>\n\n\\end\\\n")
    rows = [(arm, seed, 12.5 - seed / 9 - (arm == "dsd")) for arm in ("base", "dsd") for seed in range(3)]
    put("judge-csv", "three", "arm,seed,error\n" + "".join(f"{a},{s},{v:.3f}\n" for a, s, v in rows))
    put("judge-json", "lines", "".join(json.dumps({"arm": a, "seed": s, "test": v}) + "\n" for a, s, v in rows))
    put("judge-json", "list", json.dumps([{"arm": a, "seed": s, "validation": v, "test": v} for a, s, v in rows]))


def folders() -> None:
    """Files of our own folders; ``compare.json`` and ``result.json`` are those of a comparison and a run of a blink."""
    recipe = {"name": "x", "dense": {"epochs": 1}, "sparse": {"epochs": 1, "sparsity": 0.3}, "redense": {"epochs": 1}}
    plan = {"recipe": recipe, "arms": ["dsd", "restart"], "seeds": [0, 1], "sweep": {}, "tuned": False, "ranks": 1}
    put("comparison", "two", json.dumps(plan))
    step = {"kind": "step", "phase_index": 0, "phase": "dense", "step": 1, "loss": 2.3, "lr": 0.1}
    epoch = {"kind": "epoch", "phase_index": 0, "phase": "dense", "step": 2, "epoch": 1, "train_loss": 2.0, "lr": 0.1}
    epoch |= {"validation": {"error": 50.0}, "sparsity": 0.0, "seconds": 1.0}
    put("metrics", "two", "".join(json.dumps(line) + "\n" for line in (step, epoch)))
    put("sums", "two", f"{hashlib.sha256(b'').hexdigest()}  recipe.yaml\n")
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz", compresslevel=9) as tar:
        for name, content in (("package/a.txt", b"abc"), ("package/b/c.json", b"{}")):
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    put("tar-gz", "two", stream.getvalue())


def tables() -> None:
    """Images in a table of Parquet."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    stream = io.BytesIO()
    Image.new("RGB", (4, 4), "red").save(stream, "png")
    image = pa.array([{"bytes": stream.getvalue(), "path": "a.png"}] * 4)
    features = {"image": {"_type": "Image"}, "label": {"names": ["a", "b"], "_type": "ClassLabel"}}
    said = json.dumps({"info": {"features": features}})
    schema = pa.schema([("image", image.type), ("label", pa.int64())], metadata={"huggingface": said})
    table = pa.table([image, pa.array([0, 1, 0, 1], pa.int64())], schema=schema)
    out = io.BytesIO()
    pq.write_table(table, out)
    put("parquet", "four", out.getvalue())


if __name__ == "__main__":
    pictures()
    sounds()
    arrays()
    texts()
    folders()
    tables()
