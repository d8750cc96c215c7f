"""Files of ours and of strangers: atomic writes, checksums, locks, safe opening, JSON and YAML.

Nothing but the standard library and PyYAML, so that no part of redense needs a copy of its own to stay light.
"""
