"""How data is fetched: the tools of one package system each, and what puts a source's files in order. No torch here."""
