//! A running reactor beside other parts of the process: the interpreter and its lock, signals, stalls, logs, threads,
//! executors, and a queue between threads.

pub mod at_end;
pub mod attach;
pub mod fairness;
pub mod intake;
pub mod lines;
pub mod logs;
pub mod offload;
pub mod signals;
pub mod stalls;
pub mod threads;
