//! A running reactor beside other parts of the process: signals, stalls, the interpreter lock, executors.

pub mod fairness;
pub mod offload;
pub mod signals;
pub mod stalls;
