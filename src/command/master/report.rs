//! What `REPORT` tells beside the decisions: this process, its tunnels, and what HAProxy runs.

use std::sync::Arc;
use std::sync::mpsc::SyncSender;
use std::thread;
use std::time::Instant;

use super::Event;
use super::tunnels::Tunnels;
use crate::command::generate;
use crate::config::Config;
use crate::core::haproxy::runtime::replies::Row;
use crate::core::haproxy::runtime::text;
use crate::core::master::lease::PeerId;
use crate::core::protocol::facts::{line, word};
use crate::core::protocol::one_line;
use crate::core::text::duration;
use crate::system::haproxy_socket::HaproxySocket;
use crate::system::hosts_dir::HostsDir;
use crate::system::listener::Writers;

/// Answers `REPORT`.
pub struct Reporter {
    events: SyncSender<Event>,
    started: Instant,
    /// Who waits for HAProxy's answer; while there is anyone, it is being asked.
    waiting: Vec<PeerId>,
}

impl Reporter {
    pub fn new(events: SyncSender<Event>, started: Instant) -> Reporter {
        Reporter {
            events,
            started,
            waiting: Vec::new(),
        }
    }

    #[allow(clippy::too_many_arguments)]
    /// Sends what is known at once. HAProxy may take its time, so another thread asks it.
    pub fn answer(
        &mut self,
        peer: PeerId,
        config: &Arc<Config>,
        epoch: u64,
        tunnels: &Tunnels,
        writers: &mut Writers,
        now: Instant,
    ) {
        let age = |since| now.saturating_duration_since(since).as_secs();
        let (version, up) = (env!("CARGO_PKG_VERSION"), age(self.started));
        writers.send(peer, &format!("MASTER {version} {up} {epoch}"));
        for (key, value, is_set) in config.in_force() {
            let source = if is_set { "file" } else { "default" };
            let value: String = value.split_whitespace().collect();
            let text = format!("SETTING {key} {} {} {source}", word(&value), plain(&value));
            writers.send(peer, &line(&text));
        }
        for (tunnel, host) in tunnels.states() {
            let port = tunnel.port.map_or("-".into(), |port| port.to_string());
            let (name, host, since) = (word(&tunnel.name), word(host), age(tunnel.since));
            let (state, error) = (tunnel.state, &tunnel.error);
            let text = format!("TUNNEL {name} {host} {state} {since} {port} {error}");
            writers.send(peer, &line(&text));
        }
        self.waiting.push(peer);
        if self.waiting.len() == 1 {
            let (config, events) = (Arc::clone(config), self.events.clone());
            thread::spawn(move || {
                let _ = events.send(Event::Servers(servers(&config)));
            });
        }
    }

    /// HAProxy has answered.
    pub fn servers(&mut self, lines: &[String], writers: &mut Writers) {
        for peer in self.waiting.drain(..) {
            for line in lines {
                writers.send(peer, line);
            }
            writers.send(peer, "END");
        }
    }
}

/// A value as a whole number: of seconds, percent or machines.
fn plain(value: &str) -> u64 {
    let number = value.trim_end_matches('%').parse::<f64>().ok();
    let of_seconds = || duration::parse(value).ok().map(duration::seconds);
    number.map(|n| n.round() as u64).or_else(of_seconds).unwrap_or(0)
}

/// The servers of the running HAProxy and those that it should have, over all managed sections.
fn servers(config: &Config) -> Vec<String> {
    let socket = HaproxySocket::new(&config.haproxy.socket);
    let listing = HostsDir::new(config.dir()).read();
    let rendered = listing.and_then(|listing| generate::render(config, &listing.entries));
    let rendered = rendered.map_err(|e| e.to_string());
    let sections = rendered
        .as_ref()
        .map_or(Vec::new(), |rendered| text::managed(&rendered.template));
    let wanted = rendered.as_ref().map_err(String::clone);
    let wanted = wanted.and_then(|rendered| text::read(&rendered.text, &sections));
    let running = socket.rows().and_then(|rows| Ok((rows, socket.servers()?)));
    let (state, why) = match (&running, &wanted) {
        (Err(why), _) => ("down", why.as_str()),
        (Ok(_), Err(why)) => ("up", why.as_str()),
        (Ok(_), Ok(_)) => ("up", ""),
    };
    let names = sections.join(",");
    let mut lines = vec![line(&format!(
        "HAPROXY {} {state} {}",
        word(&names),
        one_line(why)
    ))];
    // Name, address and state.
    let mut servers: Vec<[String; 3]> = Vec::new();
    for section in wanted.iter().flat_map(|w| &w.sections) {
        let rows = running
            .as_ref()
            .map(|(rows, _)| rows.iter().filter(|r| r.section == section.name));
        for server in &section.servers {
            let state = match rows.clone().map(|mut rows| rows.find(|r| r.name == server.name)) {
                Err(_) => "-",
                Ok(None) => "missing",
                Ok(Some(row)) => status(row),
            };
            match servers.iter_mut().find(|s| s[0] == server.name) {
                // What is amiss in one section is what there is to tell.
                Some([.., before]) if before == "UP" || before == "no-check" => *before = state.into(),
                Some(_) => {}
                None => servers.push([server.name.into(), server.target.into(), state.into()]),
            }
        }
    }
    if let Ok((rows, states)) = &running {
        for row in rows.iter().filter(|row| sections.contains(&&*row.section)) {
            if servers.iter().all(|s| s[0] != row.name) {
                let running = states
                    .iter()
                    .find(|s| s.section == row.section && s.name == row.name);
                let address = running.and_then(|s| s.address).map(|a| a.to_string());
                let known = wanted.is_err() || row.is_set_aside();
                let state = if known { status(row) } else { "extra" };
                servers.push([row.name.clone(), address.unwrap_or_default(), state.into()]);
            }
        }
    }
    for server in servers {
        let [name, address, state] = server.map(|text| word(&text));
        lines.push(line(&format!("SERVER {name} {address} {state}")));
    }
    lines
}

/// `UP 1/3` is up, and `no check` one word.
fn status(row: &Row) -> &str {
    match row.status.as_str() {
        "no check" => "no-check",
        status => status.split(' ').next().unwrap_or_default(),
    }
}
