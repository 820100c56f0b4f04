//! Effects: files, processes, sockets and the machine itself. Each file wraps one of them, and decides
//! what only its keeper can: a new name in `hosts.d`, the next port of a tunnel.

pub mod child;
pub mod drains;
pub mod due;
pub mod files;
pub mod hangup;
pub mod haproxy_socket;
pub mod health;
pub mod hosts_dir;
pub mod lines;
pub mod links;
pub mod listener;
pub mod log;
pub mod machine;
pub mod owner;
pub mod ssh;
pub mod state;
pub mod tunnel;

use std::sync::{Mutex, MutexGuard, PoisonError};

/// What `mutex` guards, also where somebody has crashed with it: it holds the same all the same.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
