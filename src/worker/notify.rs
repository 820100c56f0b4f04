//! `[notify]`: a command and a webhook, on a thread of their own, so that nobody waits for them.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::config::Config;
use crate::core::node::{Machine, Notice};
use crate::core::protocol::one_line;
use crate::core::text::json::{object, text};
use crate::ec2;
use crate::system::child::{self, Rest};
use crate::system::log::Log;

/// Notices that may wait for those before them.
const QUEUE: usize = 16;

/// How long a machine that is about to end waits for this to be told.
const LAST_WORDS: Duration = Duration::from_secs(5);
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// How many notices have not been told yet.
#[derive(Clone, Default)]
pub struct Pending(Arc<AtomicUsize>);

impl Pending {
    /// Until there is none any more, and no longer than [`LAST_WORDS`].
    pub fn wait(&self) {
        let deadline = Instant::now() + LAST_WORDS;
        while self.0.load(Ordering::Relaxed) > 0 && Instant::now() < deadline {
            thread::sleep(LOOK_EVERY);
        }
    }
}

/// Tells whom `[notify]` names.
pub struct Notifier {
    pending: Pending,
    send: Option<SyncSender<Notice>>,
    thread: Option<JoinHandle<()>>,
    node: String,
    log: Log,
}

impl Notifier {
    /// `node` is this host's name. Without a command and a webhook it does nothing.
    pub fn start(config: Arc<Config>, node: String, log: Log) -> Notifier {
        let mut notifier = Notifier {
            pending: Pending::default(),
            send: None,
            thread: None,
            node: node.clone(),
            log,
        };
        if !config.notify.command.is_empty() || !config.notify.webhook.is_empty() {
            let (send, notices) = mpsc::sync_channel(QUEUE);
            let left = notifier.pending();
            let told = thread::spawn(move || deliver(&config, &node, notices, &left, log));
            (notifier.send, notifier.thread) = (Some(send), Some(told));
        }
        notifier
    }

    /// Goes by other settings from now on; what waits is told by those before.
    pub fn set_config(&mut self, config: Arc<Config>) {
        *self = Notifier::start(config, self.node.clone(), self.log);
    }

    /// Returns at once.
    pub fn tell(&self, notice: Notice) {
        let Some(send) = &self.send else { return };
        self.pending.0.fetch_add(1, Ordering::Relaxed);
        if let Err(error) = send.try_send(notice) {
            self.pending.0.fetch_sub(1, Ordering::Relaxed);
            self.log.warning(&format!(
                "notify: not told of, those before take too long: {error}"
            ));
        }
    }

    /// What is still to be told.
    pub fn pending(&self) -> Pending {
        self.pending.clone()
    }

    /// Waits until all have been told, each no longer than its timeout.
    pub fn finish(&mut self) {
        self.send = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn deliver(config: &Config, node: &str, notices: Receiver<Notice>, left: &Pending, log: Log) {
    let settings = &config.notify;
    for notice in notices {
        let facts = facts(&notice, &config.cluster.name, node);
        if !settings.command.is_empty()
            && let Err(why) = run(&settings.command, &facts, settings.timeout)
        {
            log.warning(&format!("notify: command: {why}"));
        }
        if !settings.webhook.is_empty()
            && let Err(why) = ec2::post(
                &settings.webhook,
                &json(&facts),
                &config.aws.ca_bundle,
                settings.timeout,
            )
        {
            log.warning(&format!("notify: webhook: {why}"));
        }
        left.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Runs `command`, with `facts` in its environment and no credentials.
fn run(command: &str, facts: &[(&str, String)], limit: Duration) -> Result<(), String> {
    let mut shell = child::script(command);
    child::without_credentials(&mut shell).envs(facts.iter().map(|(name, value)| (name, value)));
    let done = child::run_script(&mut shell, limit, Rest::Ends)?;
    match done.status.success() {
        true => Ok(()),
        false => Err(format!("{} ({})", done.complaint(), done.status)),
    }
}

/// The facts of one notice, by the names of their variables. The manual page has each.
fn facts(notice: &Notice, cluster: &str, node: &str) -> [(&'static str, String); 9] {
    let Notice {
        event,
        machine,
        reason,
    } = notice;
    let reason = one_line(reason);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let of_machine = |fact: fn(&Machine) -> String| machine.as_ref().map_or(String::new(), fact);
    let title = of_machine(|m| format!(" {}", m.title()));
    [
        ("AUTOSCALER_EVENT", (*event).into()),
        ("AUTOSCALER_CLUSTER", cluster.into()),
        ("AUTOSCALER_NODE", node.into()),
        (
            "AUTOSCALER_INSTANCE",
            of_machine(|m| m.instance.clone().unwrap_or_default()),
        ),
        ("AUTOSCALER_HOST", of_machine(|m| m.host.clone())),
        ("AUTOSCALER_PORT", of_machine(|m| m.port.to_string())),
        ("AUTOSCALER_REASON", reason.clone()),
        ("AUTOSCALER_TIME", now.as_secs().to_string()),
        (
            "AUTOSCALER_TEXT",
            format!("{cluster}: {node}: {event}{title}: {reason}"),
        ),
    ]
}

/// The same as a JSON object of texts, with the names in lower case and without their prefix.
fn json(facts: &[(&str, String)]) -> String {
    let name = |variable: &str| variable.trim_start_matches("AUTOSCALER_").to_ascii_lowercase();
    let member = |(variable, value): &(&str, String)| format!("\"{}\":{}", name(variable), text(value));
    object(&facts.iter().map(member).collect::<Vec<_>>())
}
