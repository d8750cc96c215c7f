"""The arms that the report has words of its own for, named as in `redense.lab.comparison`, which needs torch."""

CONTROL = "restart"
