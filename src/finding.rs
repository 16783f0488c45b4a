//! What a check found: how it stands, what is wrong, and what to do about it.

use crate::fate::Trouble;
use serde::Serialize;
use std::fmt;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    Ok,
    /// It works, and is not as it should be.
    Warning,
    /// It does not work, or will not.
    Problem,
}

impl State {
    pub fn as_str(self) -> &'static str {
        match self {
            State::Ok => "ok",
            State::Warning => "warning",
            State::Problem => "problem",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What was looked at, in one word.
    pub check: &'static str,
    pub state: State,
    pub what: String,
    /// What to do; empty where nothing is to be done.
    pub hint: String,
    /// The one that is missing, as its owner would grant it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub permission: Option<String>,
    /// Whose exit code a problem ends with.
    #[serde(skip)]
    pub trouble: Trouble,
}

/// One line.
impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Finding { check, state, what, hint, permission, .. } = self;
        write!(f, "{:<7}  {check:<21}  {}", state.as_str(), one_line(what))?;
        // What is missing is mostly said by whoever missed it.
        if let Some(permission) = permission.as_ref().filter(|permission| !what.contains(*permission)) {
            write!(f, "; it takes the permission {permission}")?;
        }
        if hint.is_empty() { Ok(()) } else { write!(f, ". {}", one_line(hint)) }
    }
}

/// What others said may have line breaks.
fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Where findings go, as they are found; all of one kind of trouble.
pub struct Findings<'a> {
    trouble: Trouble,
    tell: &'a mut (dyn FnMut(Finding) + Send),
}

impl<'a> Findings<'a> {
    pub fn new(trouble: Trouble, tell: &'a mut (dyn FnMut(Finding) + Send)) -> Findings<'a> {
        Findings { trouble, tell }
    }

    /// The same for another kind of trouble.
    pub fn of(&mut self, trouble: Trouble) -> Findings<'_> {
        Findings { trouble, tell: self.tell }
    }

    pub fn ok(&mut self, check: &'static str, what: impl Into<String>) {
        self.tell(check, State::Ok, what, "", None);
    }

    pub fn warning(&mut self, check: &'static str, what: impl Into<String>, hint: impl Into<String>) {
        self.tell(check, State::Warning, what, hint, None);
    }

    pub fn problem(&mut self, check: &'static str, what: impl Into<String>, hint: impl Into<String>) {
        self.tell(check, State::Problem, what, hint, None);
    }

    pub fn tell(
        &mut self,
        check: &'static str,
        state: State,
        what: impl Into<String>,
        hint: impl Into<String>,
        permission: Option<String>,
    ) {
        let (what, hint, trouble) = (what.into(), hint.into(), self.trouble);
        (self.tell)(Finding { check, state, what, hint, permission, trouble });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finding_is_one_line_and_names_its_permission_once() {
        let mut told = Vec::new();
        let mut tell = |finding: Finding| told.push(finding.to_string());
        let mut out = Findings::new(Trouble::Vault, &mut tell);
        out.ok("clock", "2 s behind");
        let permission = || Some("s3:GetObject".to_owned());
        out.tell("receipt", State::Problem, "refused:\n  no", "Ask\nsomebody", permission());
        out.tell("receipt", State::Problem, "it takes s3:GetObject", "", permission());
        assert_eq!(
            told,
            [
                "ok       clock                  2 s behind",
                "problem  receipt                refused: no; it takes the permission s3:GetObject. Ask somebody",
                "problem  receipt                it takes s3:GetObject",
            ]
        );
    }
}
