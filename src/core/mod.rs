//! The pure core: values and times in, values out. Nothing under here opens a file, a socket
//! or a process, reads a clock or makes a random number.

pub mod auth;
pub mod backoff;
pub mod check;
pub mod complaint;
pub mod cpu;
pub mod demand;
pub mod diff;
pub mod duration;
pub mod entry;
pub mod gate;
pub mod history;
pub mod ids;
pub mod ini;
pub mod json;
pub mod lease;
pub mod listing;
pub mod master;
pub mod need;
pub mod node;
pub mod octets;
pub mod plan;
pub mod protocol;
pub mod replay;
pub mod report;
pub mod runtime;
pub mod shortage;
#[cfg(test)]
mod simulation;
pub mod strangers;
pub mod template;
pub mod value;
pub mod window;
pub mod words;
