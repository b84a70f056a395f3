//! The same servers and clients in a simulated world.
