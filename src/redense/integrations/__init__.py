"""Callbacks for other libraries' loops: they only say when. Each is imported from its own module, with its library."""
