"""The services of a drill, with a proxy in front of each dependency."""
