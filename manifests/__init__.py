"""The standard datasets, one TOML file each."""
