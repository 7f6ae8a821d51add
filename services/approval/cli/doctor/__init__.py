"""`latchkey doctor`: walks the way a device walks, and stops at the first thing that is wrong."""
