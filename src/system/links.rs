//! The daemon's connections: it looks for masters on every tunnel port of this machine, and
//! greets whom it finds.

use std::collections::BTreeSet;
use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr, TcpStream};
use std::ops::RangeInclusive;
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use super::lines::{End, Lines, SILENCE};
use super::{lock, machine};
use crate::config;
use crate::core::backoff::Backoff;
use crate::core::node::{HEARTBEAT, LinkId};
use crate::core::protocol::auth::{self, Claim, Role};
use crate::core::protocol::{self, FromMaster, FromNode};

/// Where tunnels end.
pub const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// Does a master of this host's own listen on it for others, on purpose?
pub fn is_own(port: u16, master: &config::Master) -> bool {
    master.listen.port() == port && !master.listen.ip().is_loopback()
}

/// What is to be said of a port that [`News::Open`] names.
pub fn open_port(port: u16) -> String {
    format!(
        "port {port}, where the tunnel ends, is open to the network: take `GatewayPorts yes` out of this host's \
         sshd_config (`no` keeps it on 127.0.0.1)"
    )
}
/// How long a port of this machine may take to answer.
const LOCAL: Duration = Duration::from_secs(1);
/// How long a master may take for each line of its greeting.
const GREETING: Duration = HEARTBEAT;
/// Between two looks: short after the start and after a loss, when a tunnel is likely to come up,
/// then longer and longer.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// A connection that ended within this time of its beginning is not tried again before it is
/// over: what listens there is no master, or one that is connected through another port.
const SHORT_LIFE: Duration = Duration::from_secs(3);

/// Who this node is to the masters.
#[derive(Clone)]
pub struct Identity {
    pub node: String,
    /// None: no proof is asked for or given. It proves with the first and, refused, with the next.
    pub secrets: Arc<Mutex<Vec<String>>>,
}

/// News from the links.
#[derive(Debug)]
pub enum News {
    /// A master has been greeted and has proved itself.
    Connected {
        link: LinkId,
        master: String,
        stream: TcpStream,
    },
    /// The far end of this master's tunnel is open to the network.
    Open {
        port: u16,
    },
    Line(LinkId, FromMaster),
    Lost(LinkId, String),
    /// Something that is no master, or one that can't prove that it is.
    Refused {
        port: u16,
        why: String,
    },
    /// Every port has been looked at once. For each connection that was found, `Connected` or
    /// `Refused` has come or will come.
    Looked {
        found: usize,
    },
}

/// A port whose connection has ended.
struct Freed {
    port: u16,
    /// It was a master, and its tunnel will likely come up again soon. What never greeted right may
    /// be anybody's, and must not keep this busy.
    was_master: bool,
}

/// Looks for masters on the ports of `at`, an address of this machine, until `tell` returns false.
pub fn look(
    at: IpAddr,
    ports: RangeInclusive<u16>,
    identity: Identity,
    tell: impl Fn(News) -> bool + Clone + Send + 'static,
) {
    thread::spawn(move || {
        let (freed, free): (Sender<Freed>, Receiver<Freed>) = mpsc::channel();
        let mut in_use = BTreeSet::new();
        let mut next_link = 0;
        let mut told_once = false;
        let mut pauses = Backoff::new(FIRST_PAUSE, LONGEST_PAUSE);
        loop {
            for port in ports.clone() {
                let address = SocketAddr::from((at, port));
                if in_use.contains(&port) {
                    continue;
                }
                let Ok(stream) = TcpStream::connect_timeout(&address, LOCAL) else {
                    continue;
                };
                in_use.insert(port);
                next_link += 1;
                let (link, identity, tell, freed) =
                    (next_link, identity.clone(), tell.clone(), freed.clone());
                thread::spawn(move || {
                    let since = Instant::now();
                    let greeted = follow(link, port, stream, &identity, &tell);
                    let rest = SHORT_LIFE.saturating_sub(since.elapsed());
                    thread::sleep(rest);
                    let was_master = greeted && rest.is_zero();
                    let _ = freed.send(Freed { port, was_master });
                });
            }
            if !told_once
                && !tell(News::Looked {
                    found: next_link as usize,
                })
            {
                return;
            }
            told_once = true;
            let woken = free.recv_timeout(pauses.failed());
            for freed in woken.into_iter().chain(free.try_iter()) {
                in_use.remove(&freed.port);
                if freed.was_master {
                    pauses.reset();
                }
            }
        }
    });
}

/// One connection from its greeting to its end. Returns whether a master was there.
fn follow(
    link: LinkId,
    port: u16,
    mut stream: TcpStream,
    identity: &Identity,
    tell: &impl Fn(News) -> bool,
) -> bool {
    let mut secrets = lock(&identity.secrets).clone().into_iter();
    let mut secret = secrets.next().unwrap_or_default();
    let (mut lines, master) = loop {
        match (greet(&stream, &identity.node, &secret), secrets.next()) {
            (Ok(greeted), _) => break greeted,
            (Err(why), next) => {
                let address = stream.peer_addr();
                let again = address.and_then(|address| TcpStream::connect_timeout(&address, LOCAL));
                let (Some(next), Ok(again)) = (next, again) else {
                    tell(News::Refused { port, why });
                    return false;
                };
                (stream, secret) = (again, next);
            }
        }
    };
    lines.allow(SILENCE);
    let Ok(writer) = stream.try_clone() else {
        return false;
    };
    if !machine::open_ports(port..=port).is_empty() && !tell(News::Open { port }) {
        return true;
    }
    if !tell(News::Connected {
        link,
        master,
        stream: writer,
    }) {
        return true;
    }
    let why = loop {
        match lines.next().map(|line| FromMaster::parse(&line)) {
            Ok(Ok(message)) => {
                if !tell(News::Line(link, message)) {
                    return true;
                }
            }
            Ok(Err(why)) => break format!("it said something else than a master does: {why}"),
            Err(end) => break end.text().to_string(),
        }
    };
    // At once, or the ssh that carries this would stay as long as this end is open.
    let _ = stream.shutdown(Shutdown::Both);
    tell(News::Lost(link, why));
    true
}

/// `HELLO` to `WELCOME`. Returns the master's name and the lines that follow.
fn greet(stream: &TcpStream, node: &str, secret: &str) -> Result<(Lines, String), String> {
    let _ = stream.set_nodelay(true);
    let _ = stream.set_write_timeout(Some(LOCAL));
    let mut writer = stream;
    let mut send = |message: FromNode| {
        writer
            .write_all(format!("{message}\n").as_bytes())
            .map_err(|e| e.to_string())
    };
    let reader = stream.try_clone().map_err(|e| e.to_string())?;
    let mut lines = Lines::new(Arc::new(reader), GREETING);
    let mut next = || {
        let line = lines.next().map_err(|end| match end {
            End::Silent => "it does not answer".to_string(),
            end => end.text().to_string(),
        })?;
        FromMaster::parse(&line).map_err(|why| format!("it speaks otherwise: {why}"))
    };
    let nonce = machine::nonce().map_err(|e| e.to_string())?;
    send(FromNode::Hello {
        version: protocol::VERSION.into(),
        node: node.into(),
        nonce: nonce.clone(),
    })?;
    let (welcome, master_nonce) = match next()? {
        FromMaster::Challenge { .. } if secret.is_empty() => {
            return Err("the master has a [cluster] secret, this node has none".into());
        }
        FromMaster::Challenge { nonce: master_nonce } => {
            let claim = Claim {
                role: Role::Node,
                name: node,
                node_nonce: &nonce,
                master_nonce: &master_nonce,
            };
            send(FromNode::Auth {
                proof: auth::prove(secret, claim),
            })?;
            (next()?, Some(master_nonce))
        }
        other => (other, None),
    };
    let (name, proof) = match welcome {
        FromMaster::Welcome { master, proof } => (master, proof),
        FromMaster::Error(text) if text.contains("speaks version 1") => {
            return Err(format!(
                "it said: {text}; upgrade autoscaler on that HAProxy host"
            ));
        }
        FromMaster::Error(text) => return Err(format!("it said: {text}")),
        other => return Err(format!("WELCOME was due, and it said: {other}")),
    };
    if !secret.is_empty() {
        let master_nonce = master_nonce.unwrap_or_default();
        let claim = Claim {
            role: Role::Master,
            name: &name,
            node_nonce: &nonce,
            master_nonce: &master_nonce,
        };
        let proved = !master_nonce.is_empty() && auth::verify(secret, claim, &proof.unwrap_or_default());
        if !proved {
            return Err("it could not prove that it knows the [cluster] secret".into());
        }
    }
    Ok((lines, name))
}
