"""The sources of the measured numbers of the documents: the raw results that tables and sentences are of."""

from __future__ import annotations

BASELINE = "baseline"

# --- what a table is of: (file, heading, first cell of the head) -> folders of results/ -----------------------------
EMOJI = ("emoji-neuraltalk", "emoji-neuraltalk-iter")
SPEECH = ("prompts-es-deepspeech", "prompts-es-deepspeech-30")
CONVERGED, ARMS, NOISY, ONE = ("converged",), ("arms-quickstart",), ("arms-noisy",), ("significance",)
HALF, RESNET_HALF = ("converged-half",), ("converged-resnet20-half",)
RESNET, TEN = ("converged-resnet20",), ("converged-resnet20-ten",)
RESIDUAL = ("arms-resnet20",)
SOUPS, BERT, CELLS = ("soups",), ("transformer",), ("pretrained",)
FASHION, TALKER, TEACHERS = ("arms-fashion",), ("arms-captions",), ("arms-captions-more",)
LATECOMERS = ("arms-captions-rest",)
SMOOTHED, NOISY_MUON = ("arms-captions-smooth",), ("arms-noisy-muon",)
OPTIMIZERS = ("captions-optimizers",)
SPOKEN = ("arms-speech",)
MORE, ALL_TEN = ("arms-quickstart-more",), ("arms-quickstart", "arms-quickstart-more")
NOISE = {(wrong, keep): (f"noise-{wrong}0-{keep}",) for wrong in "013" for keep in ("last", "best")}
MARGINS: dict[tuple[str, ...], float] = {  # set before they were run
    CONVERGED: 0.1,
    HALF: 0.1,
    RESNET: 0.2,
    RESNET_HALF: 0.2,
    TEN: 0.1,
    RESIDUAL: 0.2,
    ARMS: 0.2,
    MORE: 0.2,
    ALL_TEN: 0.2,
    NOISY: 0.2,
    FASHION: 0.2,
    TALKER: 0.3,
    TEACHERS: 0.3,
    LATECOMERS: 0.3,
    SMOOTHED: 0.3,
    NOISY_MUON: 0.2,
    OPTIMIZERS: 0.3,
    SPOKEN: 1,
    SOUPS: 0.2,
    **dict.fromkeys(NOISE.values(), 0.2),
    ONE: 0.1,
    CELLS: 0.5,
}
LOOKS: dict[tuple[str, ...], int] = {ALL_TEN: 2}  # folders that are judged together, and were looked at one by one
R = "docs/results.md"
EXPERIMENTS: dict[tuple[str, str, str], tuple[str, ...]] = {
    ("README.md", "Does it help?", "the quickstart's CNN, 40 epochs, 10 seeds"): CONVERGED,
    ("README.md", "Does it help?", "quickstart as shipped, 5 seeds"): ("quickstart",),
    (R, "A trained baseline, at the paper's rates", "arm"): CONVERGED,
    (R, "A trained baseline, at higher rates", "arm"): HALF,
    (R, "ResNet-20 with a trained baseline", "arm"): RESNET,
    (R, "ResNet-20 at higher rates", "arm"): RESNET_HALF,
    (R, "ResNet-20, ten other seeds", "arm"): TEN,
    (R, "Every arm on the quickstart", "arm"): ARMS,
    (R, "Five other seeds, and all ten", "arm, seeds 505 to 509"): MORE,
    (R, "Five other seeds, and all ten", "arm, all ten seeds"): ALL_TEN,
    (R, "The strongest arms, with six times the images", "arm"): FASHION,
    (R, "ResNet-20 of 12 epochs, and stochastic depth", "arm"): RESIDUAL,
    (R, "The strongest arms, on captions", "arm"): TALKER,
    (R, "Soups, averages and teachers, on captions", "arm"): TEACHERS,
    (R, "Every other arm, on captions", "arm"): LATECOMERS,
    (R, "Label smoothing, on captions", "arm"): SMOOTHED,
    (R, "Is it Muon, or the rate? On captions", "arm"): OPTIMIZERS,
    (R, "The strongest arms, on speech", "arm"): SPOKEN,
    (R, "Every arm on wrong labels", "arm"): NOISY,
    (R, "Muon, on the same wrong labels", "arm"): NOISY_MUON,
    (R, "Averages of DSD runs, on seeds of their own", "arm"): SOUPS,
    **{
        (R, "How many labels are wrong, and early stopping", f"arm, {said}the {keep} epoch"): NOISE[wrong, keep]
        for wrong, said in (("0", ""), ("1", "10 % wrong, "), ("3", "30 % wrong, "))
        for keep in ("last", "best")
    },
    (R, "A pretrained transformer", "arm"): BERT,
    (R, "A pretrained network for pictures", "arm"): CELLS,
    (R, "The paper's test: one trained network, sixteen times", "arm"): ONE,
    (R, "Quickstart: a small CNN on Fashion-MNIST", "arm"): ("quickstart",),
    (R, "ResNet-20 on Fashion-MNIST", "arm"): ("fashion-mnist-resnet20",),
    (R, "A small SqueezeNet on Fashion-MNIST", "arm"): ("fashion-mnist-squeezenet",),
    (R, "A small VGG on Fashion-MNIST", "arm"): ("fashion-mnist-vgg",),
    (R, "The quickstart's CNN on all of Fashion-MNIST", "arm"): ("fashion-mnist-cnn",),
    (R, "Captions of emoji: NeuralTalk", "arm"): EMOJI,
    (R, "Speech: a small Deep Speech on Spanish sentences", "arm"): SPEECH,
    (R, "Speech: a BLSTM on the same sentences, pruned gate by gate", "arm"): ("prompts-es-blstm",),
    (R, "Where the mask itself helps: wrong labels", "arm"): ("noisy-labels",),
    (R, "Where the mask itself helps: wrong labels", "arm, best epoch of each phase"): ("noisy-labels-best",),
    (R, "The confirmation", "arm, best epoch of each phase"): ("noisy-labels-early",),
    (R, "The control that was missing", "arm, best epoch of each phase"): ("noisy-labels-early-llr",),
    ("zoo/quickstart/README.md", "quickstart", "arm"): ("quickstart",),
    ("zoo/fashion-mnist-squeezenet/README.md", "fashion-mnist/squeezenet", "arm"): ("fashion-mnist-squeezenet",),
    ("zoo/fashion-mnist-resnet20/README.md", "fashion-mnist/resnet20", "arm"): TEN,
    ("zoo/fashion-mnist-noisy-labels/README.md", "fashion-mnist/noisy-labels", "arm"): ("noisy-labels",),
    ("zoo/prompts-es-deepspeech/README.md", "prompts-es/deepspeech", "arm"): ("prompts-es-deepspeech",),
    ("zoo/emoji-neuraltalk/README.md", "emoji/neuraltalk", "arm"): ("emoji-neuraltalk",),
}
METRICS = {
    "test error": "test_error",
    "test WER": "test_wer",
    "test CER": "test_cer",
    "BLEU-4": "test_bleu4",
    "test BLEU-4": "test_bleu4",
    "perplexity": "test_perplexity",
    "validation error": "validation_error",
    "validation BLEU-4": "validation_bleu4",
}
HIGHER = ("bleu",)

# --- the numbers of the text: as they are printed -> how they come about ---------------------------------------------
EARLY, LLR, BEST = ("noisy-labels-early",), ("noisy-labels-early-llr",), ("noisy-labels-best",)
IMAGES = {
    "quickstart": ("dsd 0.3", "random 0.3"),
    "fashion-mnist-resnet20": ("dsd", "random"),
    "fashion-mnist-squeezenet": ("dsd", "random"),
    "fashion-mnist-vgg": ("dsd", "random"),
    "fashion-mnist-cnn": ("dsd", "random"),
}
TEXT: dict[str, tuple[tuple[str, ...], str, str, str]] = {
    # printed: (folders, metric, arm, against); the sign of an unsigned number is that of the sentence
    "0.04 ± 0.80": (CELLS, "test_error", "dsd", "soup"),
    "0.8 ± 0.6": (EARLY, "test_error", "dsd", "restart"),
    "0.35 ± 0.22": (LLR, "test_error", "dsd", "llr"),
    "0.80 ± 0.57": (LLR, "test_error", "dsd", "restart"),
    "2.5 ± 0.6": (("noisy-labels", "noisy-labels-best:baseline"), "test_error", "dsd 0.95", "best baseline"),
    "1.8 ± 0.7": (("noisy-labels", "noisy-labels-best:baseline"), "test_error", "random 0.8", "best baseline"),
    "−4.65 ± 0.43": (("noisy-labels",), "test_error", "dsd 0.95", "llr"),
    "0.23 ± 0.12": (CONVERGED, "test_error", "dsd 0.3", "longer"),
    "0.06 ± 0.03": (ONE, "test_error", "dsd", "baseline"),
    "0.05 ± 0.03": (ONE, "test_error", "dsd", "llr"),
    "0.13 ± 0.03": (CONVERGED, "test_error", "dsd 0.5", "baseline"),
    "0.03 ± 0.08": (CONVERGED, "test_error", "dsd 0.3", "restart"),
    "0.21 ± 0.11": (CONVERGED, "test_error", "longer", "baseline"),
    "0.15 ± 0.07": (CONVERGED, "test_error", "llr lr=0.3", "baseline"),
    "0.096 ± 0.099": (HALF, "test_error", "dsd 0.5", "restart"),
    "0.05 ± 0.10": (HALF, "test_error", "dsd 0.3", "baseline"),
    "0.90 ± 0.14": (HALF, "test_error", "random 0.5", "baseline"),
    "0.12 ± 0.08": (HALF, "test_error", "llr lr=0.3", "baseline"),
    "0.13 ± 0.17": (HALF, "test_error", "longer", "baseline"),
    "+0.14 ± 0.47": (RESNET_HALF, "test_error", "dsd", "longer"),
    "0.12 ± 0.18": (RESNET_HALF, "test_error", "dsd", "baseline"),
    "0.07 ± 0.22": (RESNET_HALF, "test_error", "dsd", "restart"),
    "+0.24 ± 0.33": (RESNET, "test_error", "dsd", "longer"),
    "0.17 ± 0.17": (RESNET, "test_error", "dsd", "llr"),
    "0.37 ± 0.25": (TEN, "test_error", "dsd 0.3", "longer"),
    "0.10 ± 0.06": (TEN, "test_error", "dsd 0.5", "baseline"),
    "0.42 ± 0.22": (TEN, "test_error", "dsd 0.5", "longer"),
    "0.03 ± 0.05": (TEN, "test_error", "dsd 0.3", "restart"),
    "0.31 ± 0.22": (TEN, "test_error", "longer", "baseline"),
    "0.52 ± 0.17": (TEN, "test_error", "random 0.5", "dsd 0.5"),
    "0.14 ± 0.17": (TEN, "test_error", "random 0.3", "dsd 0.3"),
    "0.59 ± 0.24": (ARMS, "test_error", "dsd", "longer"),
    "0.50 ± 0.23": (ARMS, "test_error", "restart", "longer"),
    "+0.10 ± 0.17": (ARMS, "test_error", "dsd", "restart"),
    "0.35 ± 0.18": (ARMS, "test_error", "dsd-iter", "dsd"),
    "0.24 ± 0.10": (ARMS, "test_error", "dsd-iter3", "dsd-iter"),
    "0.23 ± 0.14": (ARMS, "test_error", "random", "dsd"),
    "0.06 ± 0.18": (MORE, "test_error", "dsd", "restart"),
    "0.08 ± 0.10": (ALL_TEN, "test_error", "dsd 0.3", "restart"),
    "0.55 ± 0.30": (MORE, "test_error", "dsd", "longer"),
    "0.57 ± 0.15": (ALL_TEN, "test_error", "dsd 0.3", "longer"),
    "0.49 ± 0.16": (ALL_TEN, "test_error", "restart", "longer"),
    "0.18 ± 0.10": (MORE, "test_error", "release-fresh", "dsd"),
    "0.23 ± 0.09": (ALL_TEN, "test_error", "baseline", "dropconnect"),
    "0.19 ± 0.08": (ARMS, "test_error", "early", "dsd"),
    "1.14 ± 0.36": (FASHION, "test_error", "dsd", "dropout"),
    "0.73 ± 0.10": (FASHION, "test_error", "longer", "restart"),
    "0.84 ± 0.18": (FASHION, "test_error", "dsd", "longer"),
    "+0.11 ± 0.13": (FASHION, "test_error", "dsd", "restart"),
    "−0.21 ± 1.78": (TALKER, "test_bleu4", "dsd", "dropout"),
    "1.20 ± 0.26": (RESIDUAL, "test_error", "dsd", "longer"),
    "1.46 ± 0.44": (RESIDUAL, "test_error", "late-depth", "restart"),
    "+0.11 ± 0.23": (RESIDUAL, "test_error", "dsd", "restart"),
    "0.88 ± 0.70": (NOISY_MUON, "test_error", "dsd", "muon"),
    "0.28 ± 0.69": (NOISY_MUON, "test_error", "gce", "muon"),
    "1.42 ± 1.01": (NOISY_MUON, "test_error", "restart", "muon"),
    "+0.04 ± 0.52": (SMOOTHED, "test_bleu4", "dsd", "restart"),
    "0.17 ± 0.46": (SMOOTHED, "test_bleu4", "restart", "smooth"),
    "0.08 ± 0.45": (SMOOTHED, "test_bleu4", "dsd-smooth", "smooth"),
    "−0.36 ± 0.36": (TEACHERS, "test_bleu4", "dsd", "restart"),
    "−3.02 ± 1.12": (LATECOMERS, "test_bleu4", "dsd", "muon"),
    "1.89 ± 1.14": (OPTIMIZERS, "test_bleu4", "muon", "adamw-0.001"),
    "0.81 ± 0.72": (OPTIMIZERS, "test_bleu4", "adamw-0.001", "baseline"),
    "2.70 ± 0.86": (LATECOMERS, "test_bleu4", "muon", "baseline"),
    "+1.55 ± 2.27": (SPOKEN, "test_wer", "dsd", "longer"),
    "0.73 ± 0.37": (NOISY, "test_error", "dsd", "distill"),
    "0.04 ± 0.54": (NOISY, "test_error", "longer", "baseline"),
    "0.69 ± 0.35": (NOISY, "test_error", "dsd-soup", "soup"),
    "0.61 ± 0.19": (NOISY, "test_error", "dsd-iter", "dsd"),
    "0.07 ± 0.16": (BERT, "test_error", "dsd", "restart"),
    "0.30 ± 0.21": (BERT, "test_error", "dsd", "llr"),
    "0.20 ± 0.30": (BERT, "test_error", "random", "dsd"),
    "0.60 ± 0.32": (SOUPS, "test_error", "dsd-soup", "soup"),
    "0.25 ± 0.12": (SOUPS, "test_error", "dsd-iter", "dsd"),
    "0.51 ± 0.24": (SOUPS, "test_error", "dsd-soup", "llr"),
    "0.50 ± 0.32": (NOISE["3", "last"], "test_error", "dsd 0.95", "longer rate=0.25"),
    "0.15 ± 0.98": (NOISY, "test_error", "forget", "restart"),
    "0.31 ± 0.24": (("quickstart",), "test_error", "dsd-iter 0.3", "dsd 0.3"),
    "0.29 ± 0.19": (("quickstart",), "test_error", "dsd-iter 0.5", "dsd 0.5"),
    "0.33 ± 0.15": (("quickstart",), "test_error", "random 0.3", "dsd 0.3"),
    "0.73 ± 0.12": (("quickstart",), "test_error", "random 0.5", "dsd 0.5"),
    "0.38 ± 0.30": (("fashion-mnist-resnet20",), "test_error", "random", "dsd"),
    "0.80 ± 0.19": (("fashion-mnist-vgg",), "test_error", "random", "dsd"),
    "+0.1 ± 0.3": (EMOJI, "test_perplexity", "dsd 0.3", "restart"),
    "−0.2 ± 1.7": (EMOJI, "test_perplexity", "dsd 0.5", "restart"),
    "2.3 ± 0.9": (EMOJI, "test_perplexity", "dsd 0.8", "dsd 0.5"),
    "0.8 ± 0.6 more": (EMOJI, "test_perplexity", "dsd-iter", "dsd 0.8"),
    "5.3 ± 0.9": (EMOJI, "test_perplexity", "random 0.5", "dsd 0.5"),
    "0.33 ± 0.66": (EMOJI, "test_bleu4", "random 0.5", "dsd 0.5"),
    "−0.2 ± 1.8": (SPEECH, "test_wer", "dsd 0.3", "dsd 0.5"),
    "0.8 ± 1.1": (SPEECH, "test_wer", "dsd-iter", "dsd 0.5"),
    "0.2 ± 1.7": (("prompts-es-blstm",), "test_wer", "dsd", "restart"),
    "0.28 ± 0.24": (("prompts-es-blstm",), "test_cer", "dsd", "restart"),
    "0.68 ± 0.41": (("noisy-labels-search",), "validation_error", "release-fresh 0.8", "dsd 0.8"),
    "0.41 ± 0.52": (("noisy-labels-search",), "validation_error", "release-fresh 0.9", "dsd 0.9"),
    "−0.08 ± 0.50": (("noisy-labels-search",), "validation_error", "release-fresh 0.95", "dsd 0.95"),
}
TEXT_OF_ONE = {  # a mean and its interval, of no difference
    "22.36 ± 0.70": (BEST, "test_error", "baseline"),
    "11.75 ± 0.22": (ARMS, "test_error", "dsd-sensitivity"),
    "11.71 ± 0.24": (ARMS, "test_error", "dsd-erk"),
    "11.72 ± 0.19": (ARMS, "test_error", "dsd"),
}
PLAIN = {  # examples of how a figure is written, and what the paper reports
    "docs/explanation/reading-measurements.md": {"11.74 ± 0.22", "−1.07 ± 0.21"},
    "docs/report.md": set[str](),
}

# --- the paper's, and the rows beside it ----------------------------------------------------------------------------
PAPER = {
    "GoogLeNet, ImageNet top-1 error": "31.14 30.02 30.20",
    "VGG-16": "31.50 27.19 29.33",
    "ResNet-18": "30.43 29.17 30.04",
    "ResNet-50": "24.01 22.89 23.58",
    "NeuralTalk, Flickr8k BLEU-4, 80 %": "16.8 18.5",
    "Deep Speech, WSJ '92 WER, 50 %; 50 + 50 + 50 epochs": "29.82 27.90",
    "the same, twice, 250 epochs in all": "28.03 27.45",
}
OURS = {
    "quickstart's CNN, Fashion-MNIST error, 30 %": (("quickstart",), "test_error", "dsd 0.3"),
    "ResNet-20": (("fashion-mnist-resnet20",), "test_error", "dsd"),
    "VGG": (("fashion-mnist-vgg",), "test_error", "dsd"),
    "SqueezeNet": (("fashion-mnist-squeezenet",), "test_error", "dsd"),
    "NeuralTalk, emoji BLEU-4, 80 %": (EMOJI, "test_bleu4", "dsd 0.8"),
    "small Deep Speech, Spanish sentences, 50 %": (SPEECH, "test_wer", "dsd 0.5"),
    "the same, twice in as many steps": (SPEECH, "test_wer", "dsd-iter"),
}
NOT_CHECKED = {  # words and figures of other programs, which are checked apart
    ("docs/explanation/reading-measurements.md", "Beside other judges", ""),
}
OF_ITS_OWN = {  # tables that a test of their own looks at
    (R, "What the paper says of its solutions", "of a network, mean of 5 seeds"),  # tests/test_hypotheses.py
    (
        "docs/explanation/optimizers.md",
        "The first steps after a release",
        "optimizer",
    ),  # tests/holding/states/test_neutral.py
}
ELSEWHERE = {  # what is not measured by comparisons of arms
    "docs/which-method.md",  # tests/test_which_method.py
    "docs/performance.md",  # timings of scripts, benchmarks/results/
    "docs/compatibility.md",  # sizes of installs
    "docs/project/inside.md",  # lines of our own source
    "docs/explanation/what-is-pruned.md",  # tools/architectures.py writes its tables
}
