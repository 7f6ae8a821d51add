"""From observations to a verdict, and how it is shown."""
