//! Detectors for one peer at a time, fed by the regular traffic: pure, without a clock.
