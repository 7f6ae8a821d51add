"""The approval service: decides which devices are admitted. All of its state is in Redis."""
