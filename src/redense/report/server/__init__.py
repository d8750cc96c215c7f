"""Pages served to this machine while runs go on."""
