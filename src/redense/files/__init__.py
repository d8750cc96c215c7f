"""Files of ours and of strangers: atomic writes, checksums, locks, safe opening, JSON and YAML.

Text for those who read it, too: on terminals (`visible`), on pages and in notebooks (`markup`). Nothing but the
standard library and PyYAML, so that no part of redense needs a copy of its own to stay light.
"""
