//! The HAProxy hosts of an app server: does each answer?

use std::time::Duration;

use crate::config::Config;
use crate::core::protocol::one_line;
use crate::core::report::Host;
use crate::error::Error;
use crate::worker::remote::Remote;

/// For one to answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// Asks all of `servers`, side by side, what any daemon may ask of them.
pub fn ask(config: &Config) -> Vec<Host> {
    let haproxy = &config.haproxy;
    let answers = Remote::new(haproxy).on_each(PATIENCE, haproxy.servers.clone(), "list-hosts");
    let host = |(name, answer): (String, Result<String, Error>)| {
        let subject = format!("HAProxy host {name}: ");
        let cause = |error: Error| one_line(error.to_string().trim_start_matches(&subject));
        let error = answer.err().map(cause);
        Host { name, error }
    };
    answers.into_iter().map(host).collect()
}
