//! What HAProxy has and is given: the entries of `hosts.d`, its configuration, and its admin socket.

pub mod complaint;
pub mod entering;
pub mod entry;
pub mod ids;
pub mod listing;
pub mod octets;
pub mod runtime;
pub mod ssh_gate;
pub mod state;
pub mod template;
