"""The judge: is an arm better than its baseline, and than the strongest control without a mask?

The statistics, the rule of a gain and its words. The command line, the report and Python all take them from here. Only
numpy and scipy are imported, never torch, because the judge reads tables that any program made.
"""
