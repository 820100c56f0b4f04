//! `remove-host`: an entry out of `hosts.d`.

use crate::config::Config;
use crate::core::entry::Entry;
use crate::error::Error;
use crate::system::hosts_dir::HostsDir;

/// `wanted` is a server's name, an address, or an address with a port.
pub fn run(config: &Config, wanted: &str) -> Result<(), Error> {
    let hosts = HostsDir::new(config.dir());
    let _lock = hosts.lock()?;
    let entries = hosts.entries()?;
    let found: Vec<&Entry> = match entries.iter().find(|e| e.name == wanted) {
        Some(entry) => vec![entry],
        None => entries.iter().filter(|e| stands_at(e, wanted)).collect(),
    };
    match found[..] {
        [entry] => hosts.remove(&entry.name),
        [] => Err(Error::usage(
            wanted.escape_default(),
            "no entry has this name or address; see autoscaler list-hosts",
        )),
        _ => {
            let names: Vec<&str> = found.iter().map(|e| e.name.as_str()).collect();
            Err(Error::usage(
                wanted,
                format!("several entries stand there: {}; name one", names.join(", ")),
            ))
        }
    }
}

fn stands_at(entry: &Entry, wanted: &str) -> bool {
    let address = entry.address();
    let with_port = entry.port().map(|port| match address.contains(':') {
        true => format!("[{address}]:{port}"),
        false => format!("{address}:{port}"),
    });
    address == wanted.trim_matches(['[', ']']) || with_port.as_deref() == Some(wanted)
}
