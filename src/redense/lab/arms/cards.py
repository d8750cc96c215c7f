"""A card for each arm: what it does, what can be set, and when it is worth a try. The site shows them."""

from __future__ import annotations

from dataclasses import dataclass

PAPERS = {
    "Han et al. 2017": (
        "DSD: Dense-Sparse-Dense Training for Deep Neural Networks, ICLR 2017",
        "https://arxiv.org/abs/1607.04381",
    ),
    "Han et al. 2015": (
        "Learning both Weights and Connections for Efficient Neural Networks, NIPS 2015",
        "https://arxiv.org/abs/1506.02626",
    ),
    "Guo et al. 2016": ("Dynamic Network Surgery for Efficient DNNs, NIPS 2016", "https://arxiv.org/abs/1608.04493"),
    "Peste et al. 2021": (
        "AC/DC: Alternating Compressed/DeCompressed Training of Deep Neural Networks, NeurIPS 2021",
        "https://arxiv.org/abs/2106.12379",
    ),
    "Evci et al. 2020": (
        "Rigging the Lottery: Making All Tickets Winners, ICML 2020",
        "https://arxiv.org/abs/1911.11134",
    ),
    "Hinton et al. 2015": ("Distilling the Knowledge in a Neural Network", "https://arxiv.org/abs/1503.02531"),
    "Denton et al. 2014": (
        "Exploiting Linear Structure Within Convolutional Networks for Efficient Evaluation, NIPS 2014",
        "https://arxiv.org/abs/1404.0736",
    ),
    "Srivastava et al. 2014": (
        "Dropout: A Simple Way to Prevent Neural Networks from Overfitting, JMLR 15",
        "https://jmlr.org/papers/v15/srivastava14a.html",
    ),
    "Wan et al. 2013": (
        "Regularization of Neural Networks using DropConnect, ICML 2013",
        "https://proceedings.mlr.press/v28/wan13.html",
    ),
    "Izmailov et al. 2018": (
        "Averaging Weights Leads to Wider Optima and Better Generalization, UAI 2018",
        "https://arxiv.org/abs/1803.05407",
    ),
    "Polyak and Juditsky 1992": (
        "Acceleration of Stochastic Approximation by Averaging, SIAM J. Control Optim. 30(4)",
        "https://doi.org/10.1137/0330046",
    ),
    "Foret et al. 2021": (
        "Sharpness-Aware Minimization for Efficiently Improving Generalization, ICLR 2021",
        "https://arxiv.org/abs/2010.01412",
    ),
}
"""A source as `Arm.source` has it -> its title, and where to read it."""

SPARSE = (
    "`sparse.sparsity`, `sparse.criterion`, `sparse.scope`, `sparse.pattern`, `prune`, and each phase's epochs and lr"
)
BUDGET = "each phase's epochs and learning rate, which are those of the recipe's `sparse` and `redense`"


@dataclass(frozen=True)
class Paper:
    """The paper that a method is from.

    Args:
        short: authors and year, as a table has it.
        title: with the place where it appeared.
        link: to read it.
    """

    short: str
    title: str
    link: str


@dataclass(frozen=True)
class Card:
    """The words of a card. The phases, the budget and the results on it are computed.

    Args:
        does: what the arm does, and how it differs from `dsd` or from `restart`.
        settings: what of the recipe matters to it.
        use: when to compare with it, and what its outcome would mean.
    """

    does: str
    settings: str
    use: str


CARDS: dict[str, Card] = {
    "dsd": Card(
        "Trains dense; removes the weights of the smallest magnitude and trains on under the mask, which is held "
        "after every step; then lets the removed weights restart from zero, with no velocity, and trains dense "
        "again at a tenth of the learning rate. This is the recipe itself.",
        SPARSE,
        "Always, and never without `restart`, `llr` and `longer` beside it. The one thing to choose is the sparsity: "
        "the paper uses 25 to 50 % for images; where the network has learned wrong labels by heart, our own figures "
        "ask for 80 % and more, and are behind those of a network that is stopped early.",
    ),
    "dsd-iter": Card(
        "Shares out the steps of the sparse and the re-dense phase over two cycles. The second cycle prunes half "
        "as much as the first and goes on at the learning rate that the first has ended with, as the paper's Deep "
        "Speech 2.",
        f"{SPARSE}. A recipe with `cycles` of its own is taken as it is.",
        "When one cycle helps: to see whether a second one is worth its complexity at the same budget. Its own "
        "control, with its steps and rates and no mask, is `restart-dsd-iter`.",
    ),
    "dsd-iter3": Card(
        "As `dsd-iter`, with three cycles, at the sparsity, half of it and a quarter of it.",
        f"{SPARSE}. A recipe with `cycles` of its own is taken as it is.",
        "Beside `dsd-iter`, where that is better than `dsd`. Its own control is `restart-dsd-iter3`.",
    ),
    "dsd-sensitivity": Card(
        "Scans the network when the sparse phase begins: each layer alone is pruned at rising sparsity and the loss on "
        "the validation split is watched. The same number of weights goes as in `dsd`, but where they cost the least.",
        f"{SPARSE}. `prune.allocation: sensitivity` says the same in a recipe.",
        "From 50 % on, where layers differ: right after pruning its shares are better than uniform ones, at 80 % by no "
        "more than chance in our one measurement. Whether that lasts through the re-dense phase, the comparison tells.",
    ),
    "dsd-erk": Card(
        "Shares the sparsity over the layers by their shapes (Erdos-Renyi-Kernel): the larger a layer, the more "
        "goes. Nothing is measured, so that it costs nothing.",
        f"{SPARSE}. `prune.allocation: erk` says the same in a recipe.",
        "As the cheap control of `dsd-sensitivity`.",
    ),
    "dsd-first": Card(
        "As `dsd`, but the first convolution is pruned too. The paper leaves it dense: with one to three input "
        "channels it has few weights, and is very sensitive.",
        f"{SPARSE}. `prune.first_layer: true` says the same in a recipe.",
        "To test the paper's rule on your network.",
    ),
    "dsd-momentum": Card(
        "As `dsd`, but the optimizer's state of a masked weight is kept. Released weights then move at once, in "
        "the direction of a momentum that was gathered under the mask.",
        SPARSE,
        "To see what a loop loses that multiplies the weights by a mask and does no more. The paper leaves this open.",
    ),
    "restart": Card(
        "DSD's phases, steps and learning rates, without a mask. What `dsd` gains over its dense baseline may be the "
        "gain of training longer and of starting the learning rate again; this arm has both. The paper lacks it.",
        BUDGET,
        "Always, and `llr` and `longer` beside it: which of the controls is the strongest depends on the network and "
        "the data, and a gain has to beat the strongest. An arm with other steps or rates than `dsd` has a control of "
        "its own: `restart-ARM`, such as `restart-acdc`.",
    ),
    "llr": Card(
        "Trains dense, and then goes on dense at a tenth of the learning rate for all of DSD's other steps. The "
        "paper's own control.",
        BUDGET,
        "Always. It lacks the restart of the learning rate that the sparse phase has: where a restart helps it is the "
        "weaker control, and where a high rate harms, as with wrong labels, the stronger.",
    ),
    "longer": Card(
        "One dense phase over the whole budget of DSD: the dense phase of the recipe with its learning-rate schedule "
        "stretched over all steps. It shares no phase with the other arms.",
        "the epochs of all phases together; the learning rate and decay of the recipe's `dense`",
        "Always: it is what most people would do with more time, and the paper's own 150-epoch baseline of Deep "
        "Speech. Not with given weights in place of the dense phase.",
    ),
    "random": Card(
        "As `dsd`, with a mask drawn at random (the paper's Random-Cut) in place of the smallest weights.",
        SPARSE,
        "To see whether it matters which weights go. Where random is as good or better, what helps is forgetting, "
        "and not the choice.",
    ),
    "early": Card(
        "Prunes half-way through the dense phase, at the learning rate that it has there: it is not annealed first. "
        "The steps that this saves are added to the sparse phase.",
        SPARSE,
        "To see whether the dense phase has to be trained to its end before pruning. Its own control is "
        "`restart-early`.",
    ),
    "early-quarter": Card(
        "As `early`, after a quarter of the dense phase.",
        SPARSE,
        "Beside `early`.",
    ),
    "scratch": Card(
        "As the paper's ablation: the dense phase is trained for its mask alone. Then a new network takes its place, "
        "which begins with other weights under that mask, and trains for all of DSD's other steps at the rate and "
        "decay of the dense phase.",
        SPARSE,
        "To see whether the mask, or the weights that are left, are what counts. The network stays sparse.",
    ),
    "scratch-own": Card(
        "Sparse from the first step to the last: the untrained weights are pruned, and the mask stays.",
        SPARSE,
        "Beside `scratch`: a mask that knows nothing of a trained network.",
    ),
    "prune": Card(
        "Dense, then sparse in three rounds at a third, two thirds and all of the sparsity, then fine-tuned at the "
        "last one. Never dense again: the network that comes out is sparse.",
        "`sparse.sparsity` (no pattern), the epochs and learning rates",
        "If a smaller network is what you are after, or to see what the re-dense phase adds.",
    ),
    "surgery": Card(
        "One sparse phase whose mask is revised as it trains: masked weights go on receiving gradients, and come "
        "back when they grow past a threshold. Never dense again.",
        "`sparse.sparsity`, from which each layer's threshold follows; in Python all of `redense.Surgery`: c, "
        "band, gamma and power",
        "As the pruning that may correct itself.",
    ),
    "acdc": Card(
        "Shares out the sparse phase over four short sparse phases, with dense ones between them, each under one "
        "threshold for the whole network; then the re-dense phase.",
        "`sparse.sparsity` (one for all weights), the epochs and learning rates",
        "When several short sparse phases are an option; its paper reports a dense model as good as the dense "
        "baseline. Its own control is `restart-acdc`.",
    ),
    "distill": Card(
        "`restart`, taught by the mean answer of the dense models of all seeds at temperature 4, mixed half and "
        "half with the labels. The training of the teachers is not counted in its budget.",
        f"{BUDGET}; `--seeds` decides how many teachers there are",
        "As what a user might do instead of DSD, with several trained networks at hand.",
    ),
    "svd": Card(
        "Replaces each fully-connected layer by its truncated SVD with 90 % of the energy, where that saves "
        "weights, and trains on as `restart`. The network has fewer parameters and another structure.",
        BUDGET,
        "As another way of removing and regularising, where the network has fully-connected layers.",
    ),
    "dropout": Card(
        "`restart` with dropout 0.5 in every phase; or without any, where the recipe has some or leaves it to the "
        "network.",
        f"{BUDGET}; `model.dropout`",
        "To see whether DSD does more than the usual regulariser. Its first dense phase is its own.",
    ),
    "dropconnect": Card(
        "`restart`, with half the weights of the linear layers dropped at random, anew for every batch.",
        BUDGET,
        "As the regulariser nearest to pruning: random, and gone with each batch.",
    ),
    "swa": Card(
        "`restart`'s steps in one phase at a constant half of the learning rate, of which it takes the mean of the "
        "weights over the second half.",
        BUDGET,
        "As a cheap technique that a user would try first.",
    ),
    "ema": Card(
        "`restart`, ending with an exponential moving average of the weights over about the last tenth of its last "
        "phase.",
        BUDGET,
        "As the cheapest technique of all.",
    ),
    "sam": Card(
        "`restart` with sharpness-aware minimisation (rho 0.05) after the dense phase, for half the steps, since "
        "each step takes two gradients. Needs `pip install 'redense[methods]'`.",
        BUDGET,
        "If you believe that DSD works by finding flatter minima: SAM looks for them directly.",
    ),
    "anneal": Card(
        "`restart`, but the sparse phase's part begins with a random jump of the weights as large as what pruning "
        "would have removed, and half-way through with another of half that size.",
        "`sparse.sparsity`, which gives the size of the jump; the epochs and learning rates",
        "To see whether any perturbation of that size would do.",
    ),
    "release-value": Card(
        "As `dsd`, but a released weight restarts from the value that it had before pruning, and not from zero.",
        SPARSE,
        "To see whether restarting from zero is what matters.",
    ),
    "release-fresh": Card(
        "As `dsd`, but a released weight restarts from a fresh random initialisation.",
        SPARSE,
        "Beside `release-value`.",
    ),
}
"""The cards of the arms in `schedules` and `techniques`; every other arm has its own where it is declared."""
