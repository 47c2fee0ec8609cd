//! Simulation, real processes and real clients: the proof of the kv store.
