//! `list-hosts`: the entries, one a line.

use std::collections::HashMap;

use super::{entries, print, template};
use crate::config::Config;
use crate::core::haproxy::entry::Entry;
use crate::core::haproxy::runtime::replies::Row;
use crate::core::haproxy::runtime::text;
use crate::core::haproxy::state::{self, State};
use crate::error::Error;
use crate::system::haproxy_socket::HaproxySocket;
use crate::system::hosts_dir::HostsDir;
use crate::system::log::Log;

/// `with_state`: and what the running HAProxy says of each.
pub fn run(config: &Config, with_state: bool, log: Log) -> Result<(), Error> {
    let entries = entries(&HostsDir::new(config.dir()), log)?;
    if with_state {
        return print(&with_states(config, &entries, log));
    }
    print(&entries.iter().map(|e| e.listing() + "\n").collect::<String>())
}

/// The lines with a state and its seconds each; `-` for what HAProxy can't be asked or doesn't say.
fn with_states(config: &Config, entries: &[Entry], log: Log) -> String {
    let running = Running::ask(config).unwrap_or_else(|why| {
        log.detail(&why);
        Running::default()
    });
    let mut lines = String::new();
    for entry in entries {
        let server = entry.server(&config.haproxy.server_line);
        let (state, since) = running.state_of(&server).unzip();
        let state = state.map_or("-".into(), |state| state.to_string());
        let since = since.flatten().map_or("-".into(), |seconds| seconds.to_string());
        lines += &format!("{} {state} {since}\n", entry.listing());
    }
    lines
}

/// How the running HAProxy has the servers of the managed sections.
#[derive(Debug, Default)]
pub struct Running {
    sections: usize,
    by_server: HashMap<String, Vec<Row>>,
    /// How many requests have arrived in these sections since its start.
    pub requests: u64,
}

impl Running {
    /// Asks it.
    ///
    /// # Errors
    /// It can't be asked, or the template does not say which sections are managed.
    pub fn ask(config: &Config) -> Result<Running, String> {
        let template = template(config).map_err(|e| e.to_string())?;
        let sections = text::managed(&template);
        let answer = HaproxySocket::new(&config.haproxy.socket).rows_and_arrivals();
        let (rows, arrivals) = answer.map_err(|why| format!("HAProxy: {why}"))?;
        let mut by_server: HashMap<String, Vec<Row>> = HashMap::new();
        for row in rows {
            if sections.contains(&&*row.section) {
                by_server.entry(row.name.clone()).or_default().push(row);
            }
        }
        let managed = arrivals
            .iter()
            .filter(|(section, _)| sections.contains(&&**section));
        Ok(Running {
            sections: sections.len(),
            by_server,
            requests: managed.map(|(_, total)| total).sum(),
        })
    }

    /// Does one of the sections have `server`?
    pub fn has(&self, server: &str) -> bool {
        self.by_server.contains_key(server)
    }

    /// The state of `server` in all of them, and for how many seconds; `None` where they don't agree.
    pub fn state_of(&self, server: &str) -> Option<(State, Option<u64>)> {
        state::of(self.by_server.get(server)?, self.sections)
    }
}
