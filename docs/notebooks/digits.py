# %% [markdown]
# # In a notebook
#
# Everything that redense returns shows itself in a cell: what would be pruned, a schedule, a scan of the layers, a verdict. This page is a notebook
# that was executed; [download it](digits.ipynb) and run it yourself. It needs `pip install 'redense[lab]' scikit-learn`, no download of data,
# and half a minute of one core.

# %%
import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import nn

import redense

images, labels = (torch.as_tensor(np.asarray(part)) for part in load_digits(return_X_y=True))
images, labels = images.float() / 16, labels.long()


def network(seed):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))


redense.summary(network(0))

# %% [markdown]
# ## A schedule
#
# 300 steps dense, 150 steps without 30 % of the weights, 150 steps dense again at a tenth of the learning rate. The curve is the learning rate, on a
# logarithmic axis; the blocks are as high as what is kept of the weights.

# %%
schedule = redense.Schedule.dsd(dense=300, sparse=150, redense=150, sparsity=0.3)
schedule

# %% [markdown]
# ## Your loop
#
# It stays as it is. `redense.DSD` hooks `optimizer.step`, and there is nothing else to call.


# %%
def train(schedule, seed, log=lambda step, dsd: None):
    model = network(seed)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, schedule.lr_factor)
    dsd = redense.DSD(model, optimizer, schedule)
    for step in range(schedule.total_steps):
        batch = torch.randint(0, 900, (64,))
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(images[batch]), labels[batch]).backward()
        optimizer.step()
        scheduler.step()
        log(step, dsd)
    train.model = model
    return {name: error(model, part) for name, part in PARTS.items()}


PARTS = {"validation_error": slice(900, 1200), "test_error": slice(1200, None)}


def error(model, part=PARTS["validation_error"]):
    return 100 * (model(images[part]).argmax(1) != labels[part]).float().mean().item()


sparse_at_its_end = []
train(schedule, seed=0, log=lambda step, dsd: sparse_at_its_end.append(dsd.summary()) if step == 448 else None)

# %% [markdown]
# The network in the middle of the sparse phase: exactly `round(0.3 * N)` weights of each layer are zero. Biases are never pruned.

# %%
sparse_at_its_end[0]

# %% [markdown]
# ## Which layer bears how much
#
# One layer at a time is pruned, without training; a darker cell costs more. `allocate` turns the scan into a sparsity for each layer.

# %%
model = train.model
scan = redense.sensitivity(model, error, sparsities=(0.3, 0.5, 0.7, 0.9))
scan

# %%
scan.allocate(overall=0.5)

# %% [markdown]
# ## Does it help?
#
# One seed says nothing. The same loop over five seeds, DSD beside the controls that have no mask and the same budget:

# %%
result = redense.compare(train, schedule, seeds=5, out="runs/digits", quiet=True)
result

# %% [markdown]
# A gain is what beats the dense baseline *and* the strongest control. `result.page` is a page with every curve and number, and the same call again
# trains nothing anew: it goes on where it was, also after a kill. [Comparing a training of your own](../how-to/compare-your-training.md) has the rest.
