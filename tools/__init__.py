"""Programs for developers: load, drills, benchmarks, capacity and interoperability."""
