//! `status`: what every master within reach knows.

use std::collections::BTreeSet;
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
/// After the first look at all ports: for greetings that take a moment longer.
const SETTLE: Duration = Duration::from_millis(500);

pub fn run(config: &Config) -> Result<(), Error> {
    let identity = Identity {
        node: machine::host_name()?,
        secret: config.cluster.secret.clone(),
    };
    let ports = config.master.tunnel_ports.clone();
    let (send, news) = mpsc::channel();
    links::look(ports.clone(), identity, move |news| send.send(news).is_ok());
    let mut deadline = Instant::now() + PATIENCE;
    // Those who have not said END yet, and those who have been asked at all.
    let (mut owing, mut masters, mut why) = (BTreeSet::new(), BTreeSet::new(), String::new());
    let mut looked = false;
    let mut text = String::new();
    while !(looked && owing.is_empty() && !masters.is_empty()) {
        match news.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(News::Connected {
                link,
                master,
                mut stream,
            }) => {
                if masters.insert(master.clone()) && writeln!(stream, "{}", FromNode::Status).is_ok() {
                    owing.insert(link);
                    text += &format!("MASTER {master}\n");
                }
            }
            Ok(News::Line(link, FromMaster::End)) => {
                owing.remove(&link);
            }
            Ok(News::Line(
                link,
                line @ (FromMaster::Node { .. } | FromMaster::Lease { .. } | FromMaster::Cooldown { .. }),
            )) if owing.contains(&link) => {
                text += &format!("{line}\n");
            }
            Ok(News::Lost(link, _)) => {
                owing.remove(&link);
            }
            Ok(News::Refused { port, why: cause }) => why = format!(": port {port}: {cause}"),
            Ok(News::Looked) if !looked => {
                looked = true;
                deadline = Instant::now() + SETTLE;
            }
            Ok(_) => {}
            Err(_) => break,
        }
    }
    if masters.is_empty() {
        let where_ = format!("127.0.0.1:{}-{}", ports.start(), ports.end());
        return Err(Error::unavailable(where_, format!("no master answers here{why}")));
    }
    print(&text)
}
