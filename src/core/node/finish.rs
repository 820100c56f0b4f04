//! The end of a change: what the masters, the operator and the commands are told of it.

use std::time::Instant;

use super::{Action, Aim, Node, Phase, seconds};
use crate::error::Error;

impl Node {
    /// It came to a good end: `did` says what was done, and `launched` machines are on their way.
    pub(super) fn succeeded(&mut self, did: &str, launched: u32, phase: Phase) {
        let text = match &self.need.why {
            why if why.is_empty() => did.to_string(),
            why => format!("{did}: {why}"),
        };
        self.masters.give_back(true, launched, &text, &mut self.out);
        if let Phase::Working { aim, .. } = self.phase {
            let pause = self.pause(aim);
            pause.backoff.reset();
            pause.refused = None;
        }
        if launched > 0 {
            self.begin_new_windows();
        }
        self.phase = phase;
    }

    /// It failed: back off.
    pub(super) fn failed(&mut self, error: Error, now: Instant) {
        let Phase::Working { aim, .. } = self.phase else {
            return;
        };
        let pause = self.pause(aim);
        let wait = pause.backoff.failed();
        (pause.until, pause.firm) = (Some(now + wait), true);
        let next = format!("next try in {} s at the earliest", seconds(wait));
        let what = match aim {
            Aim::Leave => "leaving",
            Aim::Terminate => "clearing up",
            Aim::Grow | Aim::Replace => "scaling",
        };
        if self.wanted.is_none() {
            self.say(format!("{what} failed, {next}"));
        }
        let text = format!("{error}; {next}");
        self.need.against.clone_from(&text);
        self.masters.give_back(false, 0, &text, &mut self.out);
        self.notify("failed", None, text);
        match aim {
            Aim::Leave => self.calm.clear(),
            Aim::Grow => self.window.clear(),
            Aim::Terminate | Aim::Replace => {}
        }
        self.phase = Phase::Idle;
        self.end(Err(error));
    }

    /// What was asked for by hand is over.
    pub(super) fn end(&mut self, result: Result<(), Error>) {
        if self.wanted.take().is_some() {
            self.out.push(Action::End(result));
        }
    }
}
