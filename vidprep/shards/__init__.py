"""WebDataset shards: samples in tars, an index, a plan that is never changed by results."""
