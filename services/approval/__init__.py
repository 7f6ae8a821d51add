"""The approval service: decides who may come in. All of its state is in Redis."""
