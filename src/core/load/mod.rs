//! How busy it is: one machine's CPU, its mean over a window, and what the requests call for beyond 100%.

pub mod cpu;
pub mod demand;
pub mod window;
