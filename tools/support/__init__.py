"""What the tools and the tests share: a stack of real processes, and who acts on it."""
