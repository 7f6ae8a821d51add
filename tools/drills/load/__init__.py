"""The devices and operators of a drill."""
