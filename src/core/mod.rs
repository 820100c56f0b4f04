//! The pure core: values and times in, values out. Nothing under here opens a file, a socket
//! or a process, reads a clock or makes a random number.

pub mod backoff;
pub mod haproxy;
pub mod load;
pub mod master;
pub mod node;
pub mod plan;
pub mod protocol;
pub mod replay;
pub mod report;
#[cfg(test)]
mod simulation;
pub mod text;
