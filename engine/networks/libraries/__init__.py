"""Libraries of networks: torchvision, open_clip's visual towers, timm, transformers, the demo."""
