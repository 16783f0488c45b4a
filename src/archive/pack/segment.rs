//! Part of a file that is larger than a piece.
//!
//! All segments carry the metadata that was fixed with the first. Whatever becomes of the file meanwhile, every
//! segment is written with its full length, so that `cat F/*` always joins them; a difference is noted.

use super::{
    PackError, Packer, SegmentChain, Step,
    copy::Reading,
    draft::hex,
    exception,
    file::{Shape, Verdict, fstat, judge},
    member::{is_deep, notes},
    under_way::UnderWay,
};
use crate::{
    archive::{
        content::{OpenError, Xattrs},
        cut::SegmentPlan,
        entry::{Entry, Meta},
        header::{Body, END_LEN, padded},
        holes,
        manifest::{Segment, member_name, note},
    },
    notice::{Exception, Reason},
};
use sha2::Sha256;
use std::fs::File;

/// The file as it is now.
type Now = Result<File, OpenError>;

impl Packer<'_> {
    pub fn segment(&mut self, plan: &SegmentPlan) -> Result<Step, PackError> {
        let plan = &SegmentPlan { file: self.as_mounted(&plan.file), ..plan.clone() };
        let fixed = &plan.file;
        let chain = self.chain.take().filter(|chain| chain.fits(&fixed.path, plan.index));
        let hasher = match &chain {
            _ if plan.index == 1 => Some(Default::default()),
            Some(chain) => chain.hasher(),
            None => None,
        };
        let tries = self.resumed.as_ref().map_or(0, |mark| mark.tries);
        let resumed = self.resume_member(fixed)?;
        let mut now = self.open_segment(fixed)?;
        let (mut under_way, mut reading) = match resumed {
            // What could not be read then may be read now.
            Some((under_way, reading)) if reading.trouble.is_some() && now.is_ok() && tries < self.options.retries => {
                self.take_back(under_way, tries + 1)?;
                self.start_segment(plan, &now, tries + 1, hasher.clone())?
            }
            Some(copying) => copying,
            None => self.start_segment(plan, &now, tries, hasher.clone())?,
        };
        loop {
            let is_last_try = under_way.tries >= self.options.retries || now.is_err();
            self.copy(now.as_ref().ok(), &under_way, &mut reading, is_last_try)?;
            if !reading.is_broken {
                break;
            }
            // Only a failure is worth another try: what has changed since the first segment stays changed.
            let again = self.open_segment(fixed)?;
            if again.is_err() {
                self.copy(now.as_ref().ok(), &under_way, &mut reading, true)?;
                break;
            }
            now = again;
            let tries = under_way.tries + 1;
            self.take_back(under_way, tries)?;
            (under_way, reading) = self.start_segment(plan, &now, tries, hasher.clone())?;
        }
        self.pad()?;
        let verdict = verdict(&fixed.meta, &now, &reading, plan.len);
        self.commit_segment(plan, under_way, reading, &verdict, chain)?;
        self.range.position = Some((&fixed.path).into());
        Ok(Step::Done)
    }

    fn start_segment(
        &mut self,
        plan: &SegmentPlan,
        now: &Now,
        tries: u32,
        hasher: Option<Sha256>,
    ) -> Result<(UnderWay, Reading), PackError> {
        let name = segment_name(plan);
        let (xattrs, troubles) = self.segment_xattrs(plan, &name, now)?;
        let extents = match now {
            Ok(file) => holes::extents(file, plan.offset, plan.len),
            // Nothing but zeros, and as a hole they take no room.
            Err(_) => Vec::new(),
        };
        let shape = Shape { entry: plan.file.clone(), xattrs, troubles, extents };
        // The cut has made room for it, and nothing smaller could be cut.
        let body = self.body(&name, &shape, plan.len);
        self.begin(&plan.file.path, self.member_len(&name, &shape, body), true)?;
        let segment =
            Segment { index: plan.index, count: plan.count, offset: plan.offset, file_size: plan.file.meta.size };
        let under_way = self.start_member(&name, &shape, body, Some(segment), tries)?;
        Ok((under_way, Reading::new(hasher)))
    }

    fn commit_segment(
        &mut self,
        plan: &SegmentPlan,
        under_way: UnderWay,
        reading: Reading,
        verdict: &Verdict,
        chain: Option<SegmentChain>,
    ) -> Result<(), PackError> {
        let fixed = &plan.file;
        let is_last = plan.index == plan.count;
        let UnderWay { mut member, troubles, .. } = under_way;
        let troubles: Vec<Exception> = verdict.exception(fixed).into_iter().chain(troubles).collect();
        let (changed, damaged) = chain.map_or((false, false), |chain| (chain.changed, chain.damaged));
        let was = |n: &str| n == note::CHANGED && changed || n == note::DAMAGED && damaged;
        let is_deep = is_deep(&segment_name(plan));
        // With the last stands what became of the whole file.
        member.note = notes(|n| verdict.has_note(n) || is_last && was(n) || n == note::DEEP && is_deep);
        member.sha256 = Some(hex(reading.sha256));
        let hasher = reading.file_sha256;
        if is_last {
            member.file_sha256 = hasher.map(hex);
        } else {
            let (changed, damaged) =
                (changed || verdict.has_note(note::CHANGED), damaged || verdict.has_note(note::DAMAGED));
            self.chain = Some(SegmentChain::new(&fixed.path, plan.index + 1, hasher.as_ref(), changed, damaged));
        }
        self.commit(&fixed.path, &member, &troubles)
    }

    /// A file that was recorded by another run.
    fn as_mounted(&self, file: &Entry) -> Entry {
        let meta = match self.content.stat(&file.path) {
            Ok(now) => file.meta.clone().as_mounted(&now),
            Err(_) => file.meta.clone(),
        };
        Entry { path: file.path.clone(), meta }
    }

    /// Want of descriptors or memory is our trouble, and says nothing of the file.
    fn open_segment(&self, fixed: &Entry) -> Result<Now, PackError> {
        let open = || {
            let file = self.content.open_file(fixed)?;
            if fstat(&file)?.is_same_inode(&fixed.meta) { Ok(file) } else { Err(OpenError::Replaced) }
        };
        match open() {
            Err(err) if err.is_exhausted() => Err(PackError::Exhausted(err)),
            now => Ok(now),
        }
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
        let (xattrs, trouble) = match now {
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
}

fn segment_name(plan: &SegmentPlan) -> Vec<u8> {
    member_name(&plan.file.path.join(format!("{:06}", plan.index).as_bytes()))
}

fn verdict(fixed: &Meta, now: &Now, reading: &Reading, len: u64) -> Verdict {
    match now {
        Ok(file) => judge(fixed, fstat(file).ok().as_ref(), reading, len),
        Err(err) => {
            let zeros = match reading.trouble {
                Some(_) if reading.lost < len => format!("{} bytes of this segment of {len} bytes are", reading.lost),
                _ => format!("this segment of {len} bytes is"),
            };
            let detail = format!("It cannot be opened any more ({err}); {zeros} zeros");
            Verdict::Damaged(err.errno(), detail)
        }
    }
}
