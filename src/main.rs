//! autoscaler: reactive scaling for app servers behind HAProxy.
//!
//! A map of the crate; each line may use those below it, never those above:
//!
//! ```text
//! main      parse → run → print one error → exit code
//! cli, help arguments → enum Command; what --help prints
//! command/  a file or folder per command, and what several share: joins all the rest
//! worker    the slow steps: EC2, the health gate, ssh, and whom `[notify]` names
//! system/   effects: files, processes, sockets, tunnels, this machine
//! aws_cli/  `aws ec2 run-instances …` → the parameters of one request   (pure)
//! ec2/      EC2's Query API: signing, credentials, retries
//! config/   autoscaler.ini → Config, every complaint with its line; which of it is secret, and who
//!           may read a file that holds it
//! core/     the decisions, room by room                                 (pure)
//!   node      the daemon's mind: samples, leases, what it does step by step, each newcomer
//!             that it launched until it serves or is ended, when it is blocked
//!   master    the master's: the handshake and the bounds for strangers, who have not greeted; who
//!             may scale or leave, by how many, what it tells
//!   plan      a survey of the site in, what is due out; whom `replace` means
//!   load      CPU, its window, and what the requests call for beyond 100%
//!   protocol  the lines between the two, and one secret's proofs
//!   haproxy   entries, their names and states, the template, what the app servers' key may do, and
//!             the Runtime API: whether a change goes by commands or by a reload, who stays
//!   backoff   a wait that doubles; after what, and up to what, says who waits
//!   report    what `status` shows, for people, as JSON and as metrics
//!   replay    `simulate`: the same minds on a trace of load
//!   simulation the same minds, HAProxy and EC2 in a random world of faults (tests)
//!   text      INI, JSON, words, durations, a diff
//! fuzz      what every reader holds to, whatever it is given                (tests)
//! error     one failure: its subject, its cause, its exit code
//! ```
//!
//! To follow one scale-up, read `core/node/mod.rs`, `core/master/asking.rs`, `core/plan/mod.rs`,
//! then `worker/mod.rs`. Nothing under `core/` opens a file, a socket or a process, reads
//! a clock or makes a random number: the callers in `command/` do.

mod aws_cli;
mod cli;
mod command;
mod config;
mod core;
mod ec2;
mod error;
#[cfg(test)]
mod fuzz;
mod help;
mod system;
mod worker;

use std::panic;
use std::process::ExitCode;

use system::log::{Level, Log};

fn main() -> ExitCode {
    // In one line, as every other event; whoever keeps the service starts it again.
    panic::set_hook(Box::new(|panic| {
        let text = panic.to_string().replace('\n', " ");
        log().warning(&format!("internal error: {text}"));
    }));
    let arguments = std::env::args_os().skip(1);
    let config = std::env::var_os("AUTOSCALER_CONFIG");
    match cli::parse(arguments, config).and_then(command::run) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            log().warning(&error.to_string());
            ExitCode::from(error.exit_code())
        }
    }
}

fn log() -> Log {
    Log::daemon(Level::Quiet)
}
