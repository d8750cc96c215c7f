"""Comparing any training: pairs of arm and seed, each done once and kept, whether a function or a command does it.

`functions` is `redense.compare`, `commands` is ``redense compare --command``; both plan (`plan`), keep (`keeping`),
carry (`carrying`) and judge (`results`) alike. No package of the extra ``lab`` is needed but scipy.
"""
