"""Loggers: where the numbers of a run go beside its own `metrics.jsonl`.

`base` says what a logger is and lists them, `local` has those that write files, `trackers` those of other packages,
`sending` carries the events of a run to them, and `compared` the results of a comparison.
"""
