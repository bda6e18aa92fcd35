"""`pretrain`: the embedded pair of backbones."""
