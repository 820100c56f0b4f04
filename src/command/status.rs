//! `status`: what every master within reach knows.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use super::print;
use crate::config::Config;
use crate::core::protocol::{FromMaster, FromNode};
use crate::error::Error;
use crate::system::links::{self, Identity, LOOPBACK, News};
use crate::system::machine;

/// For the masters to answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// What one master says of itself and its nodes.
pub struct Answer {
    pub master: String,
    pub lines: Vec<FromMaster>,
}

pub fn run(config: &Config) -> Result<(), Error> {
    let mut text = String::new();
    for Answer { master, lines } in ask(config, LOOPBACK, config.master.tunnel_ports.clone())? {
        text += &format!("MASTER {master}\n");
        text.extend(lines.iter().map(|line| format!("{line}\n")));
    }
    print(&text)
}

/// Asks every master that listens on one of the `ports` of `at`, an address of this machine.
///
/// # Errors
/// Unavailable: none answers, and why.
pub fn ask(config: &Config, at: IpAddr, ports: RangeInclusive<u16>) -> Result<Vec<Answer>, Error> {
    let identity = Identity {
        node: machine::host_name()?,
        secret: config.cluster.secret.clone(),
    };
    let (send, news) = mpsc::channel();
    links::look(at, ports.clone(), identity, move |news| send.send(news).is_ok());
    let deadline = Instant::now() + PATIENCE;
    // Those who have not said END yet, and those who have been asked at all.
    let (mut owing, mut masters, mut why) = (BTreeSet::new(), BTreeSet::new(), String::new());
    // How many connections were found, once that is known, and how many greetings have ended.
    let (mut found, mut greeted) = (None, 0);
    let mut answers = BTreeMap::new();
    while found.is_none_or(|found| greeted < found) || !owing.is_empty() {
        match news.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(News::Connected {
                link,
                master,
                mut stream,
            }) => {
                greeted += 1;
                if masters.insert(master.clone()) && writeln!(stream, "{}", FromNode::Status).is_ok() {
                    owing.insert(link);
                    let lines = Vec::new();
                    answers.insert(link, Answer { master, lines });
                }
            }
            Ok(News::Refused { port, why: cause }) => {
                greeted += 1;
                why = format!(": port {port}: {cause}");
            }
            Ok(News::Looked { found: count }) => found = Some(count),
            Ok(News::Line(link, FromMaster::End)) => {
                owing.remove(&link);
            }
            Ok(News::Line(
                link,
                line @ (FromMaster::Node { .. } | FromMaster::Lease { .. } | FromMaster::Cooldown { .. }),
            )) if owing.contains(&link) => {
                answers.entry(link).and_modify(|a| a.lines.push(line));
            }
            Ok(News::Line(..)) => {}
            Ok(News::Lost(link, _)) => {
                owing.remove(&link);
            }
            Err(_) => break,
        }
    }
    if masters.is_empty() {
        let mut place = SocketAddr::new(at, *ports.start()).to_string();
        if ports.start() != ports.end() {
            place += &format!("-{}", ports.end());
        }
        return Err(Error::unavailable(place, format!("no master answers here{why}")));
    }
    Ok(answers.into_values().collect())
}
