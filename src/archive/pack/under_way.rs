//! A member whose header is in the tar and whose data are being copied: begun, marked, taken back, gone on with.

use super::{
    PackError, Packer, TAR,
    copy::Reading,
    draft::Point,
    file::Shape,
    member::describe,
    packed::{Copied, MemberMark},
};
use crate::{
    archive::{
        entry::{Entry, Kind, Walked},
        header::{Body, padded},
        holes::{self, Extent},
        manifest::{ExceptionLine, Member, Segment},
    },
    notice::Exception,
};
use std::io;

pub struct UnderWay {
    /// Its line; digests and notes are still to come.
    pub member: Member,
    /// As it is in the header.
    pub file: Entry,
    /// Of the file or the segment, bytes.
    pub len: u64,
    pub is_sparse: bool,
    /// Regions with data, relative to [`start`](Self::start).
    pub extents: Vec<Extent>,
    /// What was wrong with its metadata.
    pub troubles: Vec<Exception>,
    /// Of the tar, before the header.
    pub point: Point,
    /// Of the tar, behind the header.
    pub map_offset: u64,
    /// How often it was begun again.
    pub tries: u32,
}

impl UnderWay {
    /// Where the range that is copied begins in the file.
    pub fn start(&self) -> u64 {
        self.member.segment.map_or(0, |segment| segment.offset)
    }

    fn mark(&self, copied: Option<Copied>, tries: u32) -> MemberMark {
        MemberMark { file: self.file.clone(), segment: self.member.segment, len: self.len, tries, copied }
    }
}

impl Packer<'_> {
    /// Bytes of a member: header, map and data to the end of their last block.
    pub fn member_len(&self, name: &[u8], shape: &Shape, body: Body) -> u64 {
        let spec = self.spec(name, &shape.entry, body, &shape.xattrs);
        spec.header_len() + padded(spec.data_len())
    }

    /// Writes the header, for which [`begin`](Self::begin) has made room, and the map.
    pub fn start_member(
        &mut self,
        name: &[u8],
        shape: &Shape,
        body: Body,
        segment: Option<Segment>,
        tries: u32,
    ) -> Result<UnderWay, PackError> {
        let point = self.tar.point();
        let spec = self.spec(name, &shape.entry, body, &shape.xattrs);
        let member = Member { segment, ..describe(&spec, point.len()) };
        let blocks = spec.build();
        self.tar.write(&blocks)?;
        let map_offset = self.tar.len();
        let (is_sparse, len) = (matches!(body, Body::Sparse { .. }), member.size);
        let extents = if is_sparse { shape.extents.clone() } else { vec![Extent { offset: 0, len }] };
        if is_sparse {
            self.tar.write(&holes::map(&extents, len))?;
        }
        Ok(UnderWay {
            member,
            file: shape.entry.clone(),
            len,
            is_sparse,
            extents,
            troubles: shape.troubles.clone(),
            point,
            map_offset,
            tries,
        })
    }

    /// Takes the member back out of the tar, to be begun again as try number `tries`. A mark in its data is moved
    /// to its beginning first: a mark never promises what is not there.
    pub fn take_back(&mut self, under_way: UnderWay, tries: u32) -> Result<(), PackError> {
        if self.marked_len > under_way.point.len() {
            let member = under_way.mark(None, tries);
            self.write_mark(under_way.point.clone(), Some(member))?;
        }
        self.tar.go_back(under_way.point)
    }

    pub fn mark_inside_if_due(&mut self, under_way: &UnderWay, reading: &Reading) -> Result<(), PackError> {
        if reading.is_fresh() || !self.is_mark_due() {
            return Ok(());
        }
        let member = under_way.mark(Some(reading.copied(under_way)), under_way.tries);
        self.write_mark(self.tar.point(), Some(member))
    }

    /// What the mark stands in, if the item is still the file that it was. The caller looks whether its content is.
    pub fn resume_member(&mut self, file: &Entry) -> Result<Option<(UnderWay, Reading)>, PackError> {
        let Some(mark) = self.resumed.take() else { return Ok(None) };
        let Some(copied) = mark.copied else { return Ok(None) };
        let rotten = || PackError::Rotten { what: TAR, why: "What its mark says of a member is damaged" };
        let reading = Reading::resume(&copied).ok_or_else(rotten)?;
        let hasher = copied.tar_state.hasher().ok_or_else(rotten)?;
        let whole = vec![Extent { offset: 0, len: mark.len }];
        let extents = if copied.is_sparse { self.read_map(&copied)? } else { whole };
        let troubles: Option<Vec<Exception>> = copied.troubles.iter().map(ExceptionLine::exception).collect();
        let under_way = UnderWay {
            point: Point::new(copied.member.offset, hasher),
            member: copied.member,
            file: Entry { path: mark.file.path, meta: mark.file.meta.as_mounted(&file.meta) },
            len: mark.len,
            is_sparse: copied.is_sparse,
            extents,
            troubles: troubles.ok_or_else(rotten)?,
            map_offset: copied.map_offset,
            tries: mark.tries,
        };
        Ok(Some((under_way, reading)))
    }

    fn read_map(&self, copied: &Copied) -> Result<Vec<Extent>, PackError> {
        let map = || -> io::Result<Vec<Extent>> { holes::read_map(self.tar.reader(copied.map_offset)?) };
        map().map_err(|_| PackError::Rotten { what: TAR, why: "The map of a sparse member cannot be read" })
    }

    /// Gives up a member that a mark stands in, if the item that comes next is not its file any more.
    pub fn drop_unless(&mut self, next: Option<&Walked>) -> Result<(), PackError> {
        let is_next = |mark: &MemberMark| match next {
            Some(Walked::Entry(entry)) => entry.meta.kind == Kind::File && entry.path == mark.file.path,
            _ => false,
        };
        if self.resumed.as_ref().is_none_or(is_next) {
            return Ok(());
        }
        let file = self.resumed.as_ref().map(|mark| mark.file.clone());
        if let Some((under_way, _)) = file.map(|file| self.resume_member(&file)).transpose()?.flatten() {
            self.take_back(under_way, 0)?;
        }
        Ok(())
    }
}
