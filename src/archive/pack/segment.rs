//! Part of a file that is larger than a piece.
//!
//! All segments carry the metadata that was fixed with the first. Whatever becomes of the file meanwhile, every
//! segment is written with its full length, so that `cat F/*` always joins them; a difference is noted.

use super::{
    PackError, Packer, SegmentChain, Step,
    copy::{Range, Reading},
    draft::hex,
    exception,
    file::{Verdict, fstat, judge},
    member::{describe, is_deep, notes},
};
use crate::{
    archive::{
        content::{OpenError, Xattrs},
        cut::SegmentPlan,
        entry::Meta,
        header::{Body, END_LEN, padded},
        holes::{self, Extent},
        manifest::{Segment, member_name, note},
    },
    notice::{Exception, Reason},
};
use std::fs::File;

/// The file as it is now.
struct Now {
    file: Result<File, OpenError>,
    extents: Vec<Extent>,
}

/// A segment whose header and data are in the tar.
struct Written<'s> {
    name: &'s [u8],
    body: Body<'static>,
    xattrs: Xattrs,
    /// Of the header in the tar.
    offset: u64,
    reading: Reading,
    verdict: Verdict,
}

impl Packer<'_> {
    pub fn segment(&mut self, plan: &SegmentPlan) -> Result<Step, PackError> {
        let fixed = &plan.file;
        let name = member_name(&fixed.path.join(format!("{:06}", plan.index).as_bytes()));
        let chain = self.chain.take().filter(|chain| chain.fits(&fixed.path, plan.index));
        let hasher = match &chain {
            _ if plan.index == 1 => Some(Default::default()),
            Some(chain) => chain.hasher(),
            None => None,
        };
        let mut now = self.open_segment(plan);
        let (xattrs, mut troubles) = self.segment_xattrs(plan, &name, &now)?;
        let mut tries = 0;
        let written = loop {
            let body = self.body(&name, fixed, &xattrs, &now.extents, plan.len);
            let spec = self.spec(&name, fixed, body, &xattrs);
            let (blocks, len) = (spec.build(), spec.header_len() + padded(spec.data_len()));
            // The cut has made room for it, and nothing smaller could be cut.
            self.begin(&fixed.path, len, true)?;
            let point = self.tar.point();
            self.tar.write(&blocks)?;
            let mut reading = Reading::new(hasher.clone());
            self.segment_data(plan, &now, body, &mut reading, tries >= self.options.retries)?;
            if reading.is_broken {
                // Only a failure is worth another try: what has changed since the first segment stays changed.
                let again = self.open_segment(plan);
                if again.file.is_ok() {
                    self.tar.go_back(point)?;
                    (now, tries) = (again, tries + 1);
                    continue;
                }
                self.segment_data(plan, &now, body, &mut reading, true)?;
            }
            let verdict = verdict(&fixed.meta, &now, &reading, plan.len);
            break Written { name: &name, body, xattrs, offset: point.len(), reading, verdict };
        };
        self.pad()?;
        troubles.splice(0..0, written.verdict.exception(fixed));
        self.commit_segment(plan, written, chain, &troubles)?;
        self.range.position = Some((&fixed.path).into());
        Ok(Step::Done)
    }

    fn commit_segment(
        &mut self,
        plan: &SegmentPlan,
        written: Written,
        chain: Option<SegmentChain>,
        troubles: &[Exception],
    ) -> Result<(), PackError> {
        let Written { name, body, xattrs, offset, reading, verdict } = written;
        let fixed = &plan.file;
        let is_last = plan.index == plan.count;
        let mut member = describe(&self.spec(name, fixed, body, &xattrs), offset);
        let (changed, damaged) = chain.map_or((false, false), |chain| (chain.changed, chain.damaged));
        let was = |n: &str| n == note::CHANGED && changed || n == note::DAMAGED && damaged;
        // With the last stands what became of the whole file.
        member.note = notes(|n| verdict.has_note(n) || is_last && was(n) || n == note::DEEP && is_deep(name));
        member.sha256 = Some(hex(reading.sha256));
        member.segment =
            Some(Segment { index: plan.index, count: plan.count, offset: plan.offset, file_size: fixed.meta.size });
        let hasher = reading.file_sha256;
        if is_last {
            member.file_sha256 = hasher.map(hex);
        } else {
            let (changed, damaged) =
                (changed || verdict.has_note(note::CHANGED), damaged || verdict.has_note(note::DAMAGED));
            self.chain = Some(SegmentChain::new(&fixed.path, plan.index + 1, hasher.as_ref(), changed, damaged));
        }
        self.commit(&fixed.path, &member, troubles)
    }

    fn open_segment(&self, plan: &SegmentPlan) -> Now {
        let open = || {
            let file = self.content.open_file(&plan.file)?;
            if fstat(&file)?.is_same_inode(&plan.file.meta) { Ok(file) } else { Err(OpenError::Replaced) }
        };
        let file = open();
        let extents = match &file {
            Ok(file) => holes::extents(file, plan.offset, plan.len),
            // Nothing but zeros, and as a hole they take no room.
            Err(_) => Vec::new(),
        };
        Now { file, extents }
    }

    /// The file's xattrs, where the piece has room for them. The cut knows nothing of them; those of the last segment
    /// count, so only there it is told when they had to stay out.
    fn segment_xattrs(
        &self,
        plan: &SegmentPlan,
        name: &[u8],
        now: &Now,
    ) -> Result<(Xattrs, Vec<Exception>), PackError> {
        let fixed = &plan.file;
        let (xattrs, trouble) = match &now.file {
            Ok(_) => self.xattrs(fixed).unwrap_or_default(),
            Err(_) => Default::default(),
        };
        let mut troubles: Vec<Exception> = trouble.into_iter().collect();
        let header_len = |xattrs: &Xattrs| self.spec(name, fixed, Body::File { len: plan.len }, xattrs).header_len();
        let above: u64 = fixed.path.ancestors().iter().map(crate::archive::header::ancestor).sum();
        let needs = self.tar.len() + above + header_len(&xattrs) + padded(plan.len) + END_LEN;
        if needs > self.options.max_size && header_len(&xattrs) > header_len(&Vec::new()) {
            if plan.index == plan.count {
                let detail = "Its extended attributes do not fit into the piece and are not archived";
                troubles.push(exception(&fixed.path, Reason::Metadata, None, detail));
            }
            return Ok((Vec::new(), troubles));
        }
        Ok((xattrs, troubles))
    }

    fn segment_data(
        &mut self,
        plan: &SegmentPlan,
        now: &Now,
        body: Body,
        reading: &mut Reading,
        salvage: bool,
    ) -> Result<(), PackError> {
        let all = [Extent { offset: 0, len: plan.len }];
        let extents = match body {
            Body::Sparse { .. } => now.extents.as_slice(),
            _ => all.as_slice(),
        };
        if reading.is_fresh() && matches!(body, Body::Sparse { .. }) {
            self.tar.write(&holes::map(extents, plan.len))?;
        }
        let range = Range { file: now.file.as_ref().ok(), start: plan.offset, len: plan.len, extents };
        self.copy(&range, reading, salvage || now.file.is_err())
    }
}

fn verdict(fixed: &Meta, now: &Now, reading: &Reading, len: u64) -> Verdict {
    match &now.file {
        Ok(file) => judge(fixed, fstat(file).ok().as_ref(), reading, len),
        Err(err) => {
            let detail = format!("It cannot be opened any more ({err}); this segment of {len} bytes is zeros");
            Verdict::Damaged(err.errno(), detail)
        }
    }
}
