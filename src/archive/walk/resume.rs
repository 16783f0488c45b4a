//! Going on in the middle: down to a position without telling again what is above it or before it.

use super::{Found, Walk, frame::Failure};
use crate::{archive::entry::Walked, archive::tree::SourceError, notice::Reason, path::SourcePath};

impl Walk {
    /// Goes down from the root to `path`. What is gone on the way is no loss: its names are unknown, as if it
    /// had been removed before the walk came. A directory that is there and cannot be read is one, and told.
    pub(super) fn resume(&mut self, path: &SourcePath, inclusive: bool) -> Result<Option<Walked>, SourceError> {
        let mut names = path.components().peekable();
        while let Some(name) = names.next() {
            let frame = self.frames.last_mut().expect("the root is there");
            frame.next = frame.listing.lower_bound(name);
            if frame.is_done() || frame.name() != name || (inclusive && names.peek().is_none()) {
                return Ok(None);
            }
            let at = frame.child();
            let found = self.examine(&at)?;
            self.frames.last_mut().expect("as above").next += 1;
            match found {
                Found::Dir(_, frame) => self.enter(*frame),
                Found::Mount(_) => {
                    self.mounts_left_out.push(at);
                    return Ok(None);
                }
                Found::Skipped(failure) => {
                    let rest = match names.peek() {
                        _ if inclusive => path.clone(),
                        Some(branch) => at.join(&[branch, &b" (and what follows)"[..]].concat()),
                        None => at.join(b"(what is in it)"),
                    };
                    return Ok(self.rest_is_lost(failure, rest));
                }
                Found::Excluded(_) | Found::Leaf(_) => return Ok(None),
            }
        }
        Ok(None)
    }

    /// The names behind the position cannot be known, so they are told as one, under a path that comes behind
    /// the position, because a walk never goes back, and before all that is told next.
    fn rest_is_lost(&mut self, failure: Failure, rest: SourcePath) -> Option<Walked> {
        if matches!(failure.reason, Reason::Vanished | Reason::Socket | Reason::Mount) {
            return None;
        }
        self.seen += 1;
        Some(Walked::Skipped(Box::new(failure.of_rest().exception(rest))))
    }
}
