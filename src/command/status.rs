//! `status`: what every master within reach knows.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use super::print;
use crate::config::Config;
use crate::core::protocol::{FromMaster, FromNode};
use crate::error::Error;
use crate::system::links::{self, Identity, News};
use crate::system::machine;

/// For the masters to answer.
const PATIENCE: Duration = Duration::from_secs(5);
pub fn run(config: &Config) -> Result<(), Error> {
    let identity = Identity {
        node: machine::host_name()?,
        secret: config.cluster.secret.clone(),
    };
    let ports = config.master.tunnel_ports.clone();
    let (send, news) = mpsc::channel();
    links::look(ports.clone(), identity, move |news| send.send(news).is_ok());
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
                    answers.insert(link, format!("MASTER {master}\n"));
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
                *answers.entry(link).or_default() += &format!("{line}\n");
            }
            Ok(News::Line(..)) => {}
            Ok(News::Lost(link, _)) => {
                owing.remove(&link);
            }
            Err(_) => break,
        }
    }
    if masters.is_empty() {
        let where_ = format!("127.0.0.1:{}-{}", ports.start(), ports.end());
        return Err(Error::unavailable(where_, format!("no master answers here{why}")));
    }
    print(&answers.into_values().collect::<String>())
}
