//! What the running HAProxy still lacks of the installed file: `.haproxy-due` beside the INI.
//! It is written before the work begins, so one that was killed amid it is made up for.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use super::files::{self, Temporary};
use crate::error::Error;

/// What is due.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Due {
    /// Nothing less than a reload will do.
    pub reload: bool,
    /// Servers that were taken out of rotation, or not yet put into it.
    pub aside: BTreeSet<String>,
    /// HAProxy has answered on its socket before the reload that is due.
    pub answered: bool,
    /// What somebody has set by command and the reload forgets: `<section>/<server>` and the words
    /// that set it again.
    pub kept: BTreeSet<(String, String)>,
}

/// The file; as long as it is there, something is due.
#[derive(Debug)]
pub struct DueFile {
    path: PathBuf,
}

impl DueFile {
    pub fn new(dir: &Path) -> DueFile {
        DueFile {
            path: dir.join(".haproxy-due"),
        }
    }

    /// `None`: the running HAProxy is as the file says.
    ///
    /// # Errors
    /// I/O.
    pub fn load(&self) -> Result<Option<Due>, Error> {
        let bytes = files::if_there(&self.path, fs::read(&self.path))?;
        Ok(bytes.map(|bytes| parse(&String::from_utf8_lossy(&bytes))))
    }

    /// Survives the end of this process. A power cut ends HAProxy as well, which then starts with
    /// what is installed.
    ///
    /// # Errors
    /// I/O.
    pub fn save(&self, due: &Due) -> Result<(), Error> {
        Temporary::create(&self.path, format(due), 0o644)
            .and_then(|file| fs::rename(&file.path, &self.path))
            .map_err(|e| Error::io(self.path.display(), e))
    }

    /// All is done.
    ///
    /// # Errors
    /// I/O.
    pub fn clear(&self) -> Result<(), Error> {
        files::if_there(&self.path, fs::remove_file(&self.path)).map(drop)
    }
}

fn format(due: &Due) -> String {
    let reload = if due.reload { "reload\n" } else { "" };
    let answered = if due.answered { "answered\n" } else { "" };
    let aside = due.aside.iter().map(|name| format!("aside {name}\n"));
    let kept = due.kept.iter().map(|(id, words)| format!("keep {id} {words}\n"));
    let more: String = aside.chain(kept).collect();
    format!("look\n{reload}{answered}{more}")
}

/// A file that can't be made out asks for a reload, which mends everything.
fn parse(text: &str) -> Due {
    let mut due = Due::default();
    let mut lines = text.lines();
    due.reload = lines.next() != Some("look");
    for line in lines {
        match line.split_once(' ') {
            Some(("aside", name)) => drop(due.aside.insert(name.into())),
            Some(("keep", rest)) => due
                .kept
                .extend(rest.split_once(' ').map(|(id, w)| (id.into(), w.into()))),
            None if line == "answered" => due.answered = true,
            _ => due.reload = true,
        }
    }
    due
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_saved_is_loaded() {
        for (reload, answered) in [(true, true), (false, false), (true, false)] {
            let due = Due {
                reload,
                answered,
                aside: ["app1".to_string(), "app2".to_string()].into(),
                kept: [("b/app3".to_string(), "weight 7".to_string())].into(),
            };
            assert_eq!(parse(&format(&due)), due);
        }
        assert!(!parse("look\n").reload);
        assert!(parse("").reload && parse("look\n\0\n").reload);
    }
}
