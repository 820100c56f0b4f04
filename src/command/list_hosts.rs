//! `list-hosts`: the entries, one a line.

use crate::config::Config;
use crate::error::Error;
use crate::system::hosts_dir::HostsDir;

pub fn run(config: &Config) -> Result<(), Error> {
    let entries = HostsDir::new(config.dir()).entries()?;
    super::print(&entries.iter().map(|e| e.listing() + "\n").collect::<String>())
}
