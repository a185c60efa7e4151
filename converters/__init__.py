"""What an ML engineer installs: from a trained model to a bundle. Planned; nothing is here yet."""
