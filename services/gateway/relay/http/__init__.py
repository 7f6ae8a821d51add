"""Plain HTTP for the upstream, and the page for when it is away."""
