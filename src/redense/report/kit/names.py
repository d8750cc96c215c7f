"""The arms that the report has words of its own for, named as `redense.lab.comparison.comparison` does, which needs torch."""

CONTROL = "restart"
