//! `list-hosts`: the entries, one a line.

use std::collections::HashMap;

use super::{entries, print, template};
use crate::config::Config;
use crate::core::entry::Entry;
use crate::core::runtime::replies::Row;
use crate::core::runtime::{state, text};
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
    let template = template(config).unwrap_or_else(|error| {
        log.detail(&error.to_string());
        String::new()
    });
    let sections = text::managed(&template);
    let rows = HaproxySocket::new(&config.haproxy.socket).rows();
    let rows = rows.unwrap_or_else(|why| {
        log.detail(&format!("HAProxy: {why}"));
        Vec::new()
    });
    let mut by_server: HashMap<&str, Vec<&Row>> = HashMap::new();
    for row in rows.iter().filter(|row| sections.contains(&&*row.section)) {
        by_server.entry(&row.name).or_default().push(row);
    }
    let mut lines = String::new();
    for entry in entries {
        let server = entry.server(&config.haproxy.server_line);
        let rows = by_server.get(&*server).map_or(&[][..], Vec::as_slice);
        let (state, since) = state::of(rows, sections.len()).unzip();
        let state = state.map_or("-".into(), |state| state.to_string());
        let since = since.flatten().map_or("-".into(), |seconds| seconds.to_string());
        lines += &format!("{} {state} {since}\n", entry.listing());
    }
    lines
}
